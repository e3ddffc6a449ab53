"""The tokens of a prompt that begins the answer are those that were counted: nothing is closed or opened."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from mrpo.data.render import render_chat
from mrpo.prepare.tiny_model import byte_tokenizer
from mrpo.verl_seam.single_turn import SingleTurn

pytestmark = pytest.mark.unit


def test_a_rollout_goes_on_with_the_last_message() -> None:
    tokenizer = byte_tokenizer([])
    loop: Any = SingleTurn.__new__(SingleTurn)  # verl's constructor takes the whole configuration of a run
    loop.tokenizer, loop.apply_chat_template_kwargs, loop.tokens = tokenizer, {}, {}
    loop.rollout_config = SimpleNamespace(prompt_length=64)
    chat = [{"role": "user", "content": "1+1"}, {"role": "assistant", "content": "<answer>"}]
    whole = render_chat(tokenizer, chat[:1], {})

    async def twice() -> list[list[int]]:
        return [await loop.ct_build_initial_tokens(chat) for _ in range(2)]

    first, again = asyncio.run(twice())
    assert first == again
    assert tokenizer.decode(first) == f"{whole}<answer>" == render_chat(tokenizer, chat, {})
