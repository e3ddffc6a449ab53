"""A learned reward: what a sequence classifier, served by vLLM, says of the conversation."""

from __future__ import annotations

from typing import Any

import aiohttp

from mrpo.rewards.outcome import RewardError


class reward_model:
    """The last logit of the head on prompt and response in the model's own chat template; unbounded.

    ``url`` is the server's, ``model`` the folder or name that it was started with. A run that serves the model itself
    (``rewards.<name>.model``) sets both. ``sign=-1`` turns a cost into a reward.

    Raises:
        RewardError: the server refused, say because the conversation is too long.
    """

    def __init__(self, url: str, model: str, sign: int = 1):
        self.url, self.model, self.sign = url, model, sign
        self.session: aiohttp.ClientSession | None = None

    async def __call__(self, prompt: Any, response: str, ground_truth: Any, extra: dict[str, Any]) -> float:
        chat = [*prompt, {"role": "assistant", "content": response}]
        self.session = self.session or aiohttp.ClientSession()
        request = {"model": self.model, "messages": chat, "use_activation": False}
        async with self.session.post(f"{self.url}/classify", json=request) as answer:
            if not answer.ok:
                raise RewardError("server", f"{answer.status} from {self.url}: {(await answer.text())[:300]}")
            content = await answer.json()
        return self.sign * content["data"][-1]["probs"][-1]
