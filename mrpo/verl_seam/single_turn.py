"""verl's agent loop of one turn, which serves all rollouts of a worker and renders each prompt once."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop

from mrpo.data.render import render_chat

KEPT_PROMPTS = 1024
"""Prompts whose tokens a worker keeps."""


class SingleTurn(SingleTurnAgentLoop):
    """verl's loop of one turn, which keeps nothing of a rollout: one serves all rollouts of a worker, and a prompt is
    rendered and tokenized once for all of its own."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.tokens: dict[str, asyncio.Task[list[int]]] = {}

    async def ct_build_initial_tokens(self, messages: list[dict[str, Any]], *given: Any, **media: Any) -> list[int]:
        if given or any(media.get(kind) for kind in ("tools", "images", "videos", "audios")):
            return list(await super().ct_build_initial_tokens(messages, *given, **media))
        key = json.dumps(messages, default=repr)
        if key not in self.tokens:
            begun = messages[-1]["role"] == "assistant"
            tokens = self._begun(messages) if begun else super().ct_build_initial_tokens(messages, **media)
            self.tokens[key] = asyncio.ensure_future(tokens)
            if len(self.tokens) > KEPT_PROMPTS:
                del self.tokens[next(iter(self.tokens))]
        return list(await self.tokens[key])

    async def _begun(self, messages: list[dict[str, Any]]) -> list[int]:
        """Up to where the assistant's last message goes on; verl would close it and open another."""
        text = render_chat(self.tokenizer, messages, self.apply_chat_template_kwargs)
        tokenizer: Any = self.tokenizer
        ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        return self._cap_text_prompt_length(ids)
