"""A real server on this machine, for rewards that ask one."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from aiohttp import web

Handler = Callable[[dict[str, Any], int], Awaitable[web.Response]]
"""The JSON that was sent and the number of requests before it, to the answer."""


@contextlib.asynccontextmanager
async def served(handler: Handler) -> AsyncIterator[str]:
    """The address of a server that answers by ``handler``."""
    count = 0

    async def handle(request: web.Request) -> web.Response:
        nonlocal count
        count += 1
        sent = await request.json()
        headers = request.headers
        received = {"authorization": headers.get("Authorization"), "headers": str(headers), "path": request.path}
        return await handler({**sent, **received}, count - 1)

    application = web.Application()
    application.router.add_post("/{path:.*}", handle)
    runner = web.AppRunner(application, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    try:
        yield f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"  # type: ignore[attr-defined]
    finally:
        await runner.cleanup()


def completion(text: Any, finish_reason: str = "stop") -> web.Response:
    message = {"role": "assistant", "content": text}
    return web.json_response(
        {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": "m",
            "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
        }
    )


def judgement(score: float) -> web.Response:
    return completion(json.dumps({"reason": "so", "score": score}))
