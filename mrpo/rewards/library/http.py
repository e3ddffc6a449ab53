"""What a server says: any program that answers a POST of JSON."""

from __future__ import annotations

import asyncio
import json
import os
import time
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp

from mrpo.errors import ConfigError
from mrpo.rewards.outcome import RewardError

LONGEST_WAIT = 30.0
"""Seconds that a server's Retry-After is followed at most."""


class http:
    """The number that ``url`` answers ``{"prompt", "response", "ground_truth", "extra"}`` with; null: not applicable.

    A request is tried again after a failed connection, a 429 or a 5xx, until ``retries`` or the reward's timeout end.

    Args:
        url: where to POST.
        field: where in the JSON answer the score is, by keys joined with dots.
        headers: sent along. No secrets: they would be written into the run folder.
        token_env: environment variable that holds a token, sent as ``Authorization: Bearer``.
        retries: tries after the first.
        backoff: seconds before the second try, twice as many before each further one. Retry-After comes first.
        rate: most calls begun per second in each of the reward's processes, further tries not counted.
        concurrency: most calls at once in each of the reward's processes.

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
        backoff: float = 0.5,
        rate: float | None = None,
        concurrency: int = 64,
    ):
        self.url, self.field, self.retries, self.backoff = url, field, retries, backoff
        self.rate, self.concurrency = rate, concurrency
        self.headers = dict(headers or {})
        if token_env is not None:
            self.headers["Authorization"] = f"Bearer {token(token_env)}"
        self.session: aiohttp.ClientSession | None = None

    async def __call__(self, prompt: Any, response: str, ground_truth: Any, extra: dict[str, Any]) -> Any:
        content = {"prompt": prompt, "response": response, "ground_truth": ground_truth, "extra": extra}
        body = json.dumps(content, default=_plain).encode()
        for attempt in range(self.retries + 1):
            wait = self.backoff * 2**attempt
            try:
                status, text, asked = await self._post(body)
            except aiohttp.ClientError as error:
                problem = f"{type(error).__name__}: {error}"
            else:
                if status < 300:
                    return self._read(text)
                problem = f"{status}: {text[:200]}"
                if status != 429 and status < 500:
                    break
                wait = asked if asked is not None else wait
            if attempt < self.retries:
                await asyncio.sleep(wait)
        raise RewardError("server", f"{problem} (try {attempt + 1} at {self.url})")

    async def _post(self, body: bytes) -> tuple[int, str, float | None]:
        """Status, text, and the seconds that it asks to wait."""
        if self.session is None:
            headers = {"Content-Type": "application/json", **self.headers}
            connector = aiohttp.TCPConnector(limit=0)
            self.session = aiohttp.ClientSession(
                headers=headers, connector=connector, timeout=aiohttp.ClientTimeout(total=None)
            )
        async with self.session.post(self.url, data=body) as answer:
            return answer.status, await answer.text(errors="replace"), _retry_after(answer.headers.get("Retry-After"))

    def _read(self, text: str) -> Any:
        try:
            value = json.loads(text)
        except ValueError:
            raise RewardError("server", f"the answer isn't JSON: {text[:200]}") from None
        for key in self.field.split("."):
            if not isinstance(value, dict) or key not in value:
                raise RewardError("server", f"no {self.field!r} in the answer: {text[:200]}")
            value = value[key]
        return value


def token(variable: str) -> str:
    """The secret in an environment variable.

    Raises:
        ConfigError: it isn't set.
    """
    if not os.environ.get(variable):
        raise ConfigError(f"token_env: given {variable!r}, allowed: an environment variable that is set.")
    return os.environ[variable]


def _retry_after(header: str | None) -> float | None:
    """Seconds to wait by a Retry-After header: seconds or a date, at most ``LONGEST_WAIT``."""
    if header is None:
        return None
    try:
        seconds = float(header) if header.strip().isdigit() else parsedate_to_datetime(header).timestamp() - time.time()
    except ValueError:
        return None
    return min(max(seconds, 0.0), LONGEST_WAIT)


def _plain(value: Any) -> Any:
    """Arrays and NumPy's numbers, which rows of a parquet file hold, as JSON has them."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
