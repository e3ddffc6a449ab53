"""An engine's HTTP server answers nobody without its key, whatever the path."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from mrpo.verl_seam.require_key import KEY, RequireKey, use_rays_token

pytestmark = pytest.mark.unit

PATHS = ["/v1/completions", "/invocations", "/tokenize", "/pause", "/update_weights", "/health/../invocations", "/", ""]


def ask(path: str, authorization: str | None = None, kind: str = "http") -> list[Any]:
    """What is sent back by a server that says ``done``."""
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send("done")

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [] if authorization is None else [(b"authorization", authorization.encode())]
    asyncio.run(RequireKey(app)({"type": kind, "path": path, "headers": headers}, None, send))  # type: ignore[arg-type]
    return sent


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(KEY, "secret")
    return "secret"


@pytest.mark.parametrize("path", PATHS)
def test_every_path_asks_for_the_key(path: str, key: str) -> None:
    for given in (None, "", "Bearer ", "Bearer secre", "Bearer secret ", "Basic secret", "secret", "Bearer ü"):
        start, body = ask(path, given)
        assert start["status"] == 401
        assert body["body"] == b'{"error": "Unauthorized"}'
        assert ask(path, given, "websocket") == [{"type": "websocket.close", "code": 1008}]
    assert ask(path, f"Bearer {key}") == ["done"]
    assert ask(path, f"Bearer {key}", "websocket") == ["done"]


@pytest.mark.parametrize("path", ["/health", "/ping", "/classify"])
def test_health_and_reward_models_scores_do_not(path: str, key: str) -> None:
    assert ask(path) == ["done"]


def test_a_server_starts_and_ends_without_it(key: str) -> None:
    assert ask("", kind="lifespan") == ["done"]


def test_the_key_is_made_of_rays_token_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (KEY, "RAY_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    use_rays_token()
    assert KEY not in os.environ
    assert ask("/invocations") == ["done"]
    monkeypatch.setenv("RAY_AUTH_TOKEN", "token")
    use_rays_token()
    made = os.environ[KEY]
    assert len(made) == 64
    assert "token" not in made
    monkeypatch.setenv("RAY_AUTH_TOKEN", "another")
    use_rays_token()
    assert os.environ[KEY] == made  # one that is there is kept
    assert ask("/invocations")[0]["status"] == 401
    monkeypatch.delenv(KEY)
