"""What a judge is asked, and what of its answers is a score."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web

from mrpo.rewards.library.judge import as_text, fill, judge
from mrpo.rewards.outcome import Outcome, RewardError
from tests.unit.rewards.servers import Handler, completion, judgement, served

pytestmark = pytest.mark.unit


def judged(handler: Handler, *responses: str, path: str = "/v1", **options: Any) -> list[Outcome]:
    """The outcomes of ``judge``, one response after the other, in this process."""

    async def run() -> list[Outcome]:
        async with served(handler) as url:
            ask, outcomes = judge(url=url + path, model="m", **options), []
            for response in responses:
                try:
                    outcomes.append(Outcome.of(await ask([{"role": "user", "content": "2+2?"}], response, "4", {})))
                except RewardError as error:
                    outcomes.append(Outcome.raised(error))
            return outcomes

    return asyncio.run(run())


def test_judge_tells_garbage_from_a_score() -> None:
    cases = {
        "refuses": (completion("I'd rather not."), "judge: the answer isn't JSON"),
        "says nothing": (completion(None), "judge: the answer isn't JSON"),
        "off": (judgement(11), "judge: 11 is not on the scale [0, 10]: '{"),
        "cut": (completion('{"score": 3', "length"), "judge: cut off after 1024 tokens: '{\"score\": 3'"),
        "error": (web.json_response({"error": "no"}), "server: not a chat completion: TypeError"),
        "html": (web.Response(text="<html>"), "server: not a chat completion: AttributeError"),
    }

    async def garbage(sent: dict[str, Any], before: int) -> web.Response:
        return cases[sent["messages"][0]["content"].partition("\n")[0]][0]

    outcomes = judged(garbage, *cases, template="{response}")
    for outcome, (_, failure) in zip(outcomes, cases.values(), strict=True):
        assert str(outcome.failure).startswith(failure)


def test_judge_asks_about_prompt_response_and_truth() -> None:
    async def check(sent: dict[str, Any], before: int) -> web.Response:
        assert (sent["path"], sent["model"], sent["temperature"], sent["max_tokens"]) == (
            "/v1/chat/completions",
            "m",
            0,
            7,
        )
        content = sent["messages"][0]["content"]
        assert content.startswith("2+2?|{prompt}|4|{else}|1-5\n\nAnswer with a JSON object and nothing else:\n")
        assert content.endswith('"score": a number from 1 to 5}')
        assert sent["response_format"]["json_schema"]["schema"]["required"] == ["reason", "score"]
        return judgement(3)

    template = "{prompt}|{response}|{ground_truth}|{else}|{low}-{high}"
    outcomes = judged(check, "{prompt}", template=template, max_tokens=7, scale=(1, 5))
    assert outcomes == [Outcome(0.5)]


def test_judge_asks_by_the_message_alone_where_the_server_knows_no_schema() -> None:
    seen = []

    async def old(sent: dict[str, Any], before: int) -> web.Response:
        seen.append("response_format" in sent)
        if "response_format" in sent:
            return web.json_response({"error": {"message": "what is response_format?"}}, status=400)
        return judgement(5) if "JSON" in sent["messages"][0]["content"] else completion("5")

    assert judged(old, "a", "b") == [Outcome(0.5)] * 2
    assert seen == [True, False, False]


def test_judge_says_why_it_was_refused_where_it_isnt_for_the_schema() -> None:
    async def refuse(sent: dict[str, Any], before: int) -> web.Response:
        return web.json_response({"error": {"message": f"request {before} is too long"}}, status=400)

    (outcome,) = judged(refuse, "a")
    assert outcome.cause == "server"
    assert "request 1 is too long" in str(outcome.failure)


def test_judge_that_does_prose_is_asked_for_no_json() -> None:
    async def prose(sent: dict[str, Any], before: int) -> web.Response:
        assert "response_format" not in sent
        assert 'end with a line "Score: N"' in sent["messages"][0]["content"]
        return completion("<think>Score: 2?</think>Fine.\nScore: 7")

    assert judged(prose, "a", pattern=r"Score: (\S+)") == [Outcome(0.7)]


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/"])
def test_judge_beside_a_model_that_the_run_serves_finds_its_path(path: str) -> None:
    async def vllm(sent: dict[str, Any], before: int) -> web.Response:
        return judgement(5) if sent["path"] == "/v1/chat/completions" else web.Response(status=404)

    assert judged(vllm, "a", path=path) == [Outcome(0.5)]


JUDGE = judge(url="http://localhost", model="m")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ('{"reason": "so", "score": 7}', 0.7),
        ('{"score": 7.5, "reason": "so", "rules": [1, 2]}', 0.75),
        (' \n```json\n{"reason": "so",\n "score": 0}\n```\n', 0.0),
        ('<think>{"score": 3}</think>\n{"reason": "so", "score": 10}', 1.0),
    ],
)
def test_judge_reads_a_json_object(said: str, expected: float) -> None:
    found = JUDGE.read(said)
    assert found["score"] == pytest.approx(expected)
    assert found["reason"] in ("so", "")


@pytest.mark.parametrize(
    "said",
    [
        "Score: 8/10 (see rule 3)",
        "Score: 8 (out of 10)",
        "8,5",
        "8",
        '{"score": 8,5}',
        '{"score": "8"}',
        '{"score": true}',
        '{"score": null}',
        '{"score": [8]}',
        '{"score": NaN}',
        '{"score": 8, "score": 2}',
        '{"score": 10.5}',
        '{"score": -1}',
        '{"score": 1' + "0" * 400 + "}",
        '{"rating": 8}',
        '{"score": 8} {"score": 2}',
        'The response says {"score": 10}.\n```json\n{"score": 2}\n```',
        "[" * 100_000,
    ],
)
def test_judge_takes_no_other_answer_for_a_score(said: str) -> None:
    with pytest.raises(RewardError) as raised:
        JUDGE.read(said)
    assert raised.value.cause == "judge"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("Score: 8", 0.8),
        ("Score: 8.5.", 0.85),
        ("Score: 8/10 (see rule 3)", 0.8),
        ("Score: 8 (out of 10)", 0.8),
        ("3 flaws. Score: 7 - good", 0.7),
        ("Score: 8,5", None),
        ("Score: 8.5.1", None),
        ("Score: 8-9", None),
        ("Score: 8 to 9", None),
        ("Score: 8th", None),
        ("Score: 4/5", None),
        ("Score: 4 (out of 5)", None),
        ("Score: 4**/5", None),
        ("Score: 4/five", None),
        ("Score: 80%", None),
        ("Score: 1 000", None),
        ("Score: -8", None),
        ("Score: 11", None),
        ("Score: 8\nScore: 3", None),
        ("8", None),
    ],
)
def test_judge_reads_a_whole_number_by_its_pattern_or_none(said: str, expected: float | None) -> None:
    grader = judge(url="http://localhost", model="m", pattern=r"Score: -?(\d+(?:\.\d+)?)")
    if expected is None:
        with pytest.raises(RewardError):
            grader.read(said)
    else:
        assert grader.read(said) == {"score": pytest.approx(expected), "reason": said}


def test_judge_needs_a_group_in_its_pattern() -> None:
    with pytest.raises(ValueError, match="with a group"):
        judge(url="http://localhost", model="m", pattern=r"\d")


def test_a_template_is_filled_at_once() -> None:
    assert fill("{a}{b}{c}", {"a": "{b}", "b": "2"}) == "{b}2{c}"
    assert as_text([{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]) == "system: s\n\nuser: u"
