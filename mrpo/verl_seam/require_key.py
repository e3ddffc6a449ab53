"""The key of the engines' HTTP servers: who asks them without it gets nothing but their health.

vLLM 0.28 asks for ``VLLM_API_KEY`` under /v1 and a few other paths only; /invocations, /tokenize and others answer
anybody. ``RequireKey`` is what verl's engines get as ``--middleware``, in front of all of them. On Ray clusters whose
nodes are given the token of Ray (``RAY_AUTH_TOKEN``: KubeRay does) but no key, the key is made of the token, so that
all nodes have the same. Without either, the server is open, as vLLM is.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

KEY = "VLLM_API_KEY"
OPEN = frozenset({"/health", "/ping", "/classify"})
"""``/classify``, of reward models, is asked by functions that know a URL and no key."""

Message = MutableMapping[str, Any]


def use_rays_token() -> None:
    """Where there is no key, make one of Ray's token: to be called in every process before servers are made."""
    token = os.environ.get("RAY_AUTH_TOKEN")
    if token and not os.environ.get(KEY):
        os.environ[KEY] = hmac.new(token.encode(), b"engines' HTTP servers", hashlib.sha256).hexdigest()


class RequireKey:
    """ASGI middleware: 401 for a request to any path but the ``OPEN`` ones without ``Authorization: Bearer KEY``."""

    def __init__(self, app: Callable[..., Awaitable[None]]):
        self.app = app

    async def __call__(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        if scope["type"] == "lifespan" or scope.get("path") in OPEN or _has_key(scope):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            headers = [(b"content-type", b"application/json"), (b"www-authenticate", b"Bearer")]
            await send({"type": "http.response.start", "status": 401, "headers": headers})
            await send({"type": "http.response.body", "body": b'{"error": "Unauthorized"}'})


def _has_key(scope: Message) -> bool:
    key = os.environ.get(KEY)
    given = dict(scope.get("headers") or ()).get(b"authorization", b"")
    return not key or hmac.compare_digest(given, f"Bearer {key}".encode())
