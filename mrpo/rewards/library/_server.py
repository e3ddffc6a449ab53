"""Requests to a server that scores, with the openai client's policy of retries, the only one here.

A request is repeated after a failed connection, a 408, 409, 429 or 5xx, and waits for what Retry-After asks; where that
is more than two minutes it isn't repeated, and without one it waits 0.5 s, twice as long each time up to 8 s, less a
random quarter at most.
"""

from __future__ import annotations

import json
import os
import re
from typing import Any

from mrpo.errors import ConfigError
from mrpo.rewards.outcome import RewardError

_USER = re.compile(r"//[^/@\s]*@")
"""User and password in a URL, which no message shows."""


class Server:
    """What answers at ``url``.

    Args:
        url: where to POST, or the base of the paths of an OpenAI-compatible server.
        retries: requests after the first.
        headers: sent along.
        token_env: environment variable that holds a token, sent as ``Authorization: Bearer``.

    Raises:
        ConfigError: the environment variable isn't set.
    """

    def __init__(
        self, url: str, *, retries: int = 3, headers: dict[str, str] | None = None, token_env: str | None = None
    ):
        import openai  # takes half a second, so only the process that scores pays

        key = "none"
        if token_env is not None:
            key = os.environ.get(token_env, "")
            if not key:
                raise ConfigError(f"token_env: given {token_env!r}, allowed: an environment variable that is set.")
        self.url, self.errors = url, openai.OpenAIError
        # With a redirect to another server httpx keeps Authorization to itself, but no other header.
        hooks: dict[str, Any] = {"response": [_stay]} if headers else {}
        self.client = openai.AsyncOpenAI(
            base_url=url, api_key=key, max_retries=retries, timeout=None, default_headers=headers,
            http_client=openai.DefaultAsyncHttpxClient(event_hooks=hooks),
        )  # fmt: skip
        # From the environment, and meant for openai.com alone.
        self.client.organization = self.client.project = None
        authorized = token_env is not None or "authorization" in map(str.lower, headers or {})
        self._unauthorized: dict[str, Any] = {} if authorized else {"Authorization": openai.omit}

    async def post(self, content: Any, path: str = "") -> Any:
        """The JSON that the server answers to ``content``, sent as JSON.

        Raises:
            RewardError: ``server``: it can't be reached, refuses, or answers something else.
        """
        body = json.dumps(content, default=_plain).encode()
        try:
            text = await self.client.post(
                self.url + path, cast_to=str, content=body, options={"headers": self._unauthorized}
            )
        except self.errors as error:
            raise self.failure(error) from error
        try:
            return json.loads(text)
        except ValueError:
            raise RewardError("server", f"the answer isn't JSON: {text[:200]}") from None

    def failure(self, error: Exception) -> RewardError:
        """What an error of the client stands for: what the server said, or why there was no connection."""
        response = getattr(error, "response", None)
        said = str(error.__cause__ or error) if response is None else f"{response.status_code}: {response.text[:200]}"
        return RewardError("server", _USER.sub("//", f"{type(error).__name__}: {said} ({self.url})"))


async def _stay(response: Any) -> None:
    """Raises ValueError where a redirect leads to another server."""
    if response.has_redirect_location:
        here, there = response.request.url, response.request.url.join(response.headers["location"])
        if (here.scheme, here.host, here.port) != (there.scheme, there.host, there.port):
            raise ValueError(f"redirected to {there.host}, to which headers aren't sent")


def _plain(value: Any) -> Any:
    """Arrays and NumPy's numbers, which rows of a parquet file hold, as JSON has them."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
