"""What a server says: any program that answers a POST of JSON."""

from __future__ import annotations

import json
from typing import Any

from mrpo.rewards.library._server import Server
from mrpo.rewards.outcome import RewardError


class http:
    """The number that ``url`` answers ``{"prompt", "response", "ground_truth", "extra"}`` with; null: not applicable.

    Args:
        url: where to POST.
        field: where in the JSON answer the score is, by keys joined with dots.
        headers: sent along. No secrets: they would be written into the run folder.
        token_env: environment variable that holds a token, sent as ``Authorization: Bearer``.
        retries: requests after the first, on failed connections, 408, 409, 429 and 5xx, within the reward's timeout.
        rate: maximum of calls begun per second in each of the reward's processes, retries not counted.
        concurrency: maximum of calls at once in each of the reward's processes.

    Raises:
        RewardError: ``server``: it can't be reached, refuses, or answers something else.
    """

    def __init__(
        self,
        *,
        url: str,
        field: str = "score",
        headers: dict[str, str] | None = None,
        token_env: str | None = None,
        retries: int = 3,
        rate: float | None = None,
        concurrency: int = 64,
    ):
        self.server = Server(url, retries=retries, headers=headers, token_env=token_env)
        self.field, self.rate, self.concurrency = field, rate, concurrency

    async def __call__(self, prompt: Any, response: str, ground_truth: Any, extra: dict[str, Any]) -> Any:
        answer = value = await self.server.post(
            {"prompt": prompt, "response": response, "ground_truth": ground_truth, "extra": extra}
        )
        for key in self.field.split("."):
            if not isinstance(value, dict) or key not in value:
                raise RewardError("server", f"no {self.field!r} in the answer: {json.dumps(answer)[:200]}")
            value = value[key]
        return value
