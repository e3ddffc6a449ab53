"""A learned reward: what a sequence classifier, served by vLLM, says of the conversation."""

from __future__ import annotations

from typing import Any

from mrpo.rewards.library._server import Server


class reward_model:
    """The last logit of the head on prompt and response in the model's own chat template; unbounded.

    ``url`` is the server's, ``model`` the folder or name that it was started with. A run that serves the model itself
    (``rewards.<name>.model``) sets both. ``sign=-1`` turns a cost into a reward.

    Raises:
        RewardError: ``server``: it can't be reached, or refused, say because the conversation is too long.
    """

    def __init__(self, url: str, model: str, sign: int = 1):
        self.server, self.model, self.sign = Server(url), model, sign

    async def __call__(self, prompt: Any, response: str, ground_truth: Any, extra: dict[str, Any]) -> float:
        begun = extra.get("prefill", "") if prompt[-1]["role"] == "assistant" else ""
        chat = [*prompt[: -1 if begun else None], {"role": "assistant", "content": begun + response}]
        request = {"model": self.model, "messages": chat, "use_activation": False}
        answer = await self.server.post(request, "/classify")
        return self.sign * answer["data"][-1]["probs"][-1]
