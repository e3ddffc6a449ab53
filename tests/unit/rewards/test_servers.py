"""Rewards that a server gives, against a real one on this machine that is down, slow, wrong or busy."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import web

from mrpo.config.run import RewardConfig
from mrpo.errors import ConfigError
from mrpo.rewards.outcome import Outcome
from mrpo.rewards.scorer import Scorer
from tests.unit.rewards.servers import Handler, judgement, served

pytestmark = pytest.mark.unit


def score(
    function: str, handler: Handler, *responses: str, timeout: float = 60.0, extra: Any = None, **options: Any
) -> list[Outcome]:
    """The outcomes of a library reward whose server answers by ``handler``."""

    async def run() -> list[Outcome]:
        async with served(handler) as url:
            reward = RewardConfig(function=function, options={"url": f"{url}/v1", **options}, timeout=timeout)
            async with Scorer({"reward": reward}, Path()) as scorer:
                prompt = [{"role": "user", "content": "2+2?"}]
                outcomes = await asyncio.gather(*(scorer.score(prompt, one, "4", extra or {}) for one in responses))
            return [outcome["reward"] for outcome in outcomes]

    return asyncio.run(run())


async def says_length(sent: dict[str, Any], before: int) -> web.Response:
    return web.json_response({"score": len(sent["response"])})


def test_http_posts_the_row_and_reads_the_score() -> None:
    async def check(sent: dict[str, Any], before: int) -> web.Response:
        assert sent["prompt"][0]["content"] == "2+2?"
        assert (sent["ground_truth"], sent["extra"]["ids"], sent["extra"]["n"]) == ("4", [1, 2], 3)
        return await says_length(sent, before)

    extra = {"ids": np.arange(1, 3), "n": np.int64(3)}
    assert score("http", check, "a", "bb", "ccc", extra=extra) == [Outcome(1.0), Outcome(2.0), Outcome(3.0)]


def test_http_reads_a_nested_field_and_null_as_not_applicable() -> None:
    async def nested(sent: dict[str, Any], before: int) -> web.Response:
        return web.json_response({"out": {"helpful": 0.5 if sent["response"] == "a" else None}})

    assert score("http", nested, "a", "b", field="out.helpful") == [Outcome(0.5), Outcome()]


def test_http_sends_the_token_of_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    async def guarded(sent: dict[str, Any], before: int) -> web.Response:
        return web.json_response({"score": float(sent["authorization"] == "Bearer s3cret")})

    monkeypatch.setenv("REWARD_TOKEN", "s3cret")
    assert score("http", guarded, "a", token_env="REWARD_TOKEN") == [Outcome(1.0)]
    with pytest.raises(ConfigError, match="token_env: given 'ABSENT_TOKEN', allowed: an environment variable"):
        score("http", guarded, "a", token_env="ABSENT_TOKEN")


@pytest.mark.parametrize("function", ["http", "judge"])
def test_a_server_that_is_down_is_a_failure_of_the_server(function: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        options: dict[str, Any] = {
            "url": url,
            "retries": 1,
            **({"model": "m"} if function == "judge" else {}),
        }
        (outcome,) = score(function, says_length, "a", **options)
    assert outcome.cause == "server"
    assert "onnect" in str(outcome.failure)


@pytest.mark.parametrize("function", ["http", "judge"])
def test_a_slow_server_is_a_timeout(function: str) -> None:
    async def slow(sent: dict[str, Any], before: int) -> web.Response:
        await asyncio.sleep(30)
        raise AssertionError

    options: dict[str, Any] = {"model": "m"} if function == "judge" else {}
    (outcome,) = score(function, slow, "a", timeout=1.0, **options)
    assert outcome == Outcome(failure="timeout: no score within 1 s")


@pytest.mark.parametrize("function", ["http", "judge"])
def test_a_server_error_is_tried_again(function: str) -> None:
    async def late_riser(sent: dict[str, Any], before: int) -> web.Response:
        if before < 2:
            return web.Response(status=500, text="warming up")
        return judgement(5) if function == "judge" else web.json_response({"score": 0.5})

    options: dict[str, Any] = {"model": "m"} if function == "judge" else {}
    assert score(function, late_riser, "a", **options) == [Outcome(0.5)]


@pytest.mark.parametrize("function", ["http", "judge"])
def test_a_busy_server_is_given_the_time_it_asks_for(function: str) -> None:
    async def busy(sent: dict[str, Any], before: int) -> web.Response:
        if before == 0:
            return web.Response(status=429, headers={"Retry-After": "1"})
        return judgement(10) if function == "judge" else web.json_response({"score": 1})

    options: dict[str, Any] = {"model": "m"} if function == "judge" else {}
    start = time.monotonic()
    assert score(function, busy, "a", **options) == [Outcome(1.0)]
    assert time.monotonic() - start >= 1.0


@pytest.mark.parametrize("function", ["http", "judge"])
def test_a_refusal_is_not_tried_again(function: str) -> None:
    async def refuse(sent: dict[str, Any], before: int) -> web.Response:
        return web.json_response({"error": {"message": f"request {before} is bad"}}, status=400)

    options: dict[str, Any] = {"model": "m", "pattern": "(8)"} if function == "judge" else {}
    (outcome,) = score(function, refuse, "a", **options)
    assert outcome.cause == "server"
    assert "400" in str(outcome.failure)
    assert "request 0 is bad" in str(outcome.failure)


def test_http_tells_garbage_from_a_score() -> None:
    expected = {
        "<html>": "server: the answer isn't JSON: <html>",
        '{"points": 1}': "server: no 'score' in the answer: {\"points\": 1}",
        "[1]": "server: no 'score' in the answer: [1]",
        '{"score": "1"}': "wrong type: str",
        '{"score": NaN}': "not finite: nan",
    }

    async def echo(sent: dict[str, Any], before: int) -> web.Response:
        return web.Response(text=sent["response"])

    assert score("http", echo, *expected) == [Outcome(failure=failure) for failure in expected.values()]


@pytest.mark.parametrize("asked", ["Wed, 21 Oct 2015 07:28:00 GMT", "0", "soon"])
@pytest.mark.parametrize("function", ["http", "judge"])
def test_a_retry_after_that_asks_for_no_wait_is_followed_by_a_short_one(function: str, asked: str) -> None:
    async def busy(sent: dict[str, Any], before: int) -> web.Response:
        if before == 0:
            return web.Response(status=503, headers={"Retry-After": asked})
        return judgement(10) if function == "judge" else web.json_response({"score": 1})

    options: dict[str, Any] = {"model": "m"} if function == "judge" else {}
    assert score(function, busy, "a", **options) == [Outcome(1.0)]


@pytest.mark.parametrize("function", ["http", "judge"])
def test_a_server_that_asks_for_a_day_is_a_failure_at_once(function: str) -> None:
    async def busy(sent: dict[str, Any], before: int) -> web.Response:
        return web.Response(status=429, headers={"Retry-After": "86400"}, text=f"request {before}: tomorrow")

    options: dict[str, Any] = {"model": "m"} if function == "judge" else {}
    (outcome,) = score(function, busy, "a", **options)
    assert outcome.cause == "server"
    assert "request 0: tomorrow" in str(outcome.failure)


def test_no_secret_of_the_environment_is_sent_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "s3cret")

    async def check(sent: dict[str, Any], before: int) -> web.Response:
        return web.json_response({"score": "s3cret" not in sent["headers"] and sent["authorization"] is None})

    assert score("http", check, "a") == [Outcome(1.0)]


def test_a_reward_model_is_read_off_its_head_and_tried_again() -> None:
    async def classify(sent: dict[str, Any], before: int) -> web.Response:
        if before == 0:
            return web.Response(status=503, text="loading")
        if sent["messages"][-1] == {"role": "assistant", "content": "too long"}:
            return web.json_response({"error": {"message": "at most 8 tokens"}}, status=400)
        assert (sent["path"], sent["model"], sent["use_activation"]) == ("/v1/classify", "m", False)
        return web.json_response({"data": [{"probs": [0.5, 2.5]}]})

    good, bad = score("reward_model", classify, "fine", "too long", model="m", sign=-1)
    assert good == Outcome(-2.5)
    assert bad.cause == "server"
    assert "at most 8 tokens" in str(bad.failure)


def test_a_rate_is_kept() -> None:
    async def when(sent: dict[str, Any], before: int) -> web.Response:
        return web.json_response({"score": time.monotonic()})

    began = time.monotonic()  # the first may take its time to come
    times = [outcome.score or 0.0 for outcome in score("http", when, *"abcde", rate=10)]
    assert max(times) - began >= 0.39


def test_a_password_in_the_url_is_in_no_message() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://me:pass-word@127.0.0.1:{unused.getsockname()[1]}/v1"

        async def never(sent: dict[str, Any], before: int) -> web.Response:
            raise AssertionError

        [outcome] = score("http", never, "a", url=url, retries=0)
    assert outcome.cause == "server"
    assert "pass-word" not in str(outcome.failure)
    assert "//127.0.0.1" in str(outcome.failure)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_headers_go_to_no_other_server(host: str) -> None:
    """A redirect within the server is followed."""
    seen = []

    async def elsewhere(sent: dict[str, Any], before: int) -> web.Response:
        seen.append("x-team-key" in sent["headers"].lower())
        if sent["path"] == "/there":
            return web.json_response({"score": 1.0})
        port = sent["headers"].partition("127.0.0.1:")[2].partition("'")[0]
        return web.Response(status=307, headers={"Location": f"http://{host}:{port}/there"})

    [outcome] = score("http", elsewhere, "a", headers={"X-Team-Key": "k"}, retries=0)
    if host == "127.0.0.1":
        assert outcome == Outcome(1.0)
        assert seen == [True, True]
    else:
        assert "redirected to localhost, to which headers aren't sent" in str(outcome.failure)
        assert seen == [True]
