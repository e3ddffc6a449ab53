"""Rewards of a group: one call for all rollouts of a prompt, and a fault costs that reward's scores of the group alone.
Scheduled options: each call has those of its step.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mrpo.config.check import check_rewards
from mrpo.config.load import validate
from mrpo.config.run import RewardConfig
from mrpo.errors import ConfigError
from mrpo.rewards.connection import MAX_ANSWER
from mrpo.rewards.function import load_function
from mrpo.rewards.outcome import Outcome
from mrpo.rewards.scorer import Scorer

pytestmark = pytest.mark.unit

SOURCE = """
import asyncio, os
def alone(prompt, response, ground_truth, extra): return float(response)
def fails(prompt, response, ground_truth, extra): raise KeyError(response)
def best(prompt, responses, ground_truth, extras, where=None):
    if where:
        with open(where, "a") as file: file.write(f"{len(responses)},")
    scores = [extra["rewards"]["alone"] for extra in extras]
    return [None if score is None else float(score == max(scores)) for score in scores]
async def later(prompt, responses, ground_truth, extras):
    await asyncio.sleep(0)
    return tuple({"score": n, "n": len(responses), "steps": [extra["step"] for extra in extras]}
                 for n, _ in enumerate(responses))
def faulty(prompt, responses, ground_truth, extras):
    fault = responses[0]
    if fault == "raises": raise KeyError(fault)
    if fault == "exits": os._exit(3)
    if fault == "one number": return 1.0
    if fault == "text": return "12"
    if fault == "short": return [1.0]
    if fault == "nan": return [1.0, float("nan")]
    if fault == "word": return [1.0, "x"]
    if fault == "outside": return [1.0, 7]
    return [None, 1.0]
def wordy(prompt, responses, ground_truth, extras): return [{"score": 1, "text": "x" * 2000}] * len(responses)
def trl(prompts, completions, level, **columns):
    return [len(set(completions)) + float(l or 0) for l in level]
def batch(data_sources, solution_strs, ground_truths, extra_infos):
    return [float(text == truth) for text, truth in zip(solution_strs, ground_truths)]
def verl(data_source, solution_str, ground_truth, extra_info): return 1.0
class Capped:
    made = 0
    def __init__(self, *, cap, kind="at most"):
        Capped.made += 1
        self.cap, self.number = cap, Capped.made
    def __call__(self, prompt, response, ground_truth, extra):
        return {"score": float(len(response) <= self.cap), "cap": self.cap, "number": self.number}
def capped(prompt, response, ground_truth, extra, *, cap): return float(len(response) <= cap)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rewards.py").write_text(SOURCE)
    return tmp_path


def reward(name: str, scope: Any = "group", **settings: Any) -> RewardConfig:
    return RewardConfig(function=f"rewards.py:{name}", scope=scope, **settings)


def score(folder: Path, rewards: dict[str, RewardConfig], *groups: list[str], **extra: Any) -> list[Any]:
    async def run() -> list[Any]:
        async with Scorer(rewards, folder) as scorer:
            return [await scorer.score_all([], group, "a", [dict(extra) for _ in group]) for group in groups]

    return asyncio.run(run())


def test_a_group_is_scored_by_one_call_whatever_its_size(folder: Path) -> None:
    calls = folder / "calls"
    rewards = {"best": reward("best", options={"where": str(calls)}), "alone": reward("alone", "rollout")}
    rewards |= {"later": reward("later")}
    one, three = score(folder, rewards, ["2"], ["1", "3", "2"], step=7)
    assert calls.read_text() == "1,3,"
    assert one == [{"best": Outcome(1.0), "alone": Outcome(2.0), "later": Outcome(0.0)}]
    assert [[of[name].score for name in rewards] for of in three] == [[0, 1, 0], [1, 3, 1], [0, 2, 2]]
    assert three[2]["later"].details == '{"n": 3, "steps": [7, 7, 7]}'


def test_a_rollout_without_the_other_score_is_in_the_group_all_the_same(folder: Path) -> None:
    rewards = {"alone": reward("fails", "rollout"), "best": reward("best")}
    ((first, _),) = score(folder, rewards, ["1", "2"])
    assert first["best"] == Outcome()
    assert first["alone"].cause == "exception"


def test_a_fault_fails_all_of_the_groups_scores_of_that_reward_only(folder: Path) -> None:
    failures = {
        "raises": "exception: KeyError",
        "exits": "crash: the process that scored it exited with code 3",
        "one number": "wrong type: float, not a list of 2 scores",
        "text": "wrong type: str, not a list of 2 scores",
        "short": "wrong length: 1 scores of 2 responses",
        "nan": "not finite: nan (response 2 of 2)",
        "word": "wrong type: str (response 2 of 2)",
        "outside": "out of range: 7 is not in [0, 1] (response 2 of 2)",
    }
    rewards = {"faulty": reward("faulty", range=(0, 1)), "later": reward("later")}
    *groups, sound = score(folder, rewards, *([fault, "x"] for fault in [*failures, "sound"]), step=1)
    for group, failure in zip(groups, failures.values(), strict=True):
        assert all(of["faulty"].score is None and of["faulty"].failure.startswith(failure) for of in group)
        assert [of["later"] for of in group] == [Outcome(0.0), Outcome(1.0)]
    assert [of["faulty"] for of in sound] == [Outcome(), Outcome(1.0)]


def test_details_that_no_answer_holds_cost_no_scores(folder: Path) -> None:
    (group,) = score(folder, {"wordy": reward("wordy")}, ["x"] * (MAX_ANSWER // 2000 + 1))
    assert {of["wordy"] for of in group} == {Outcome(1.0)}
    assert {of["wordy"].details for of in group} == {""}


def test_a_reward_that_does_not_apply_to_the_source_is_not_called(folder: Path) -> None:
    rewards = {"best": reward("best", options={"where": str(folder / "calls")}, sources=["math"])}
    (group,) = score(folder, rewards, ["1", "2"], data_source="chat")
    assert group == [{"best": Outcome()}] * 2
    assert not (folder / "calls").exists()


def test_functions_of_other_frameworks_get_the_group_in_their_lists(folder: Path) -> None:
    score_texts: Any = load_function("rewards.py:trl", folder, scope="group")
    compare: Any = load_function("rewards.py:batch", folder, scope="group")
    extras = [{"level": 1, "prompt_is_text": True}, {"prompt_is_text": True}, {"prompt_is_text": True}]
    assert score_texts([{"role": "user", "content": "x"}], ["a", "a", "b"], None, extras) == [3.0, 2.0, 2.0]
    assert compare([], ["a", "b"], "a", [{}, {}]) == [1.0, 0.0]
    with pytest.raises(ConfigError, match="scope: given group, but a function with the parameter solution_str"):
        load_function("rewards.py:verl", folder, scope="group")


@pytest.mark.parametrize(
    ("name", "scope", "message"),
    [
        ("best", "rollout", r"rewards\.x\.scope: given rollout, while best takes extras and responses. Allowed: group"),
        ("alone", "group", r"rewards\.x\.scope: given group, while alone takes extra and response. Allowed: rollout"),
        ("Capped", "group", r"rewards\.x\.scope: given group, while Capped takes extra and response"),
        ("distinct", "rollout", r"rewards\.x\.scope: given rollout, while distinct takes extras and responses"),
    ],
)
def test_a_function_of_the_other_scope_is_refused_before_anything_starts(
    folder: Path, name: str, scope: str, message: str
) -> None:
    function = name if name == "distinct" else f"rewards.py:{name}"
    with pytest.raises(ConfigError, match=message):
        check_rewards(run_of({"x": {"function": function, "scope": scope}}), folder)


def run_of(rewards: dict[str, Any]) -> Any:
    data = {"train_files": ["t"], "val_files": ["v"], "train_batch_size": 4}
    return validate({"recipe": "test", "model": {"path": "m"}, "data": data, "rewards": rewards})


def test_rank_needs_a_reward_that_looks_at_each_rollout_alone(folder: Path) -> None:
    ranked = {"function": "rank", "scope": "group"}
    others = {"right": {"function": "exact_match"}, "diverse": {"function": "distinct", "scope": "group"}}
    check_rewards(run_of({**others, "x": {**ranked, "options": {"of": "right"}}}), folder)
    for other in ("rihgt", "diverse"):
        with pytest.raises(ConfigError, match=rf"rewards\.x\.options \(reward of scope rollout\).*{other}"):
            check_rewards(run_of({**others, "x": {**ranked, "options": {"of": other}}}), folder)


def test_scheduled_options_are_refused_before_there_is_a_rollout(folder: Path) -> None:
    options = {"kind": "cosine", "cap": 9}
    brief = {"function": "length", "options": options, "range": [0, 2], "scheduled_options": {"start": {1: 2, 9: 1}}}
    check_rewards(run_of({"x": brief}), folder)
    for wrong, message in (
        ({"stert": {1: 2}}, r"rewards\.x\.options: unknown option 'stert'"),
        ({"start": {1: 2, 5: 3, 9: 1}}, r"rewards\.x\.range: given \[0, 2\], allowed: one that holds \[0, 3\]"),
    ):
        with pytest.raises(ConfigError, match=message):
            check_rewards(run_of({"x": {**brief, "scheduled_options": wrong}}), folder)
    rewards = {"x": RewardConfig(function="length", options={"kind": "cap"}, scheduled_options={"cap": {1: 0, 9: 5}})}
    with pytest.raises(ConfigError, match=r"(?s)rewards\.x: .*cap: given 0, allowed with kind cap"):
        score(folder, rewards)


@pytest.mark.parametrize("name", ["Capped", "capped"])
def test_scheduled_options_are_those_of_the_step_of_each_call(folder: Path, name: str) -> None:
    rewards = {"x": reward(name, "rollout", scheduled_options={"cap": {1: 1, 3: 5}})}

    async def run() -> list[Outcome]:
        async with Scorer(rewards, folder) as scorer:
            steps: list[dict[str, Any]] = [{"step": 1}, {"step": 2}, {"step": 3}, {"step": 2}, {}, {"step": None}]
            return [(await scorer.score([], "abc", None, extra))["x"] for extra in steps]

    found = asyncio.run(run())
    assert [one.score for one in found] == [0, 1, 1, 1, 1, 1]
    if name == "Capped":  # made once a value, at the points first
        assert [one.details for one in found][:4] == [
            '{"cap": 1, "number": 1}',
            '{"cap": 3.0, "number": 3}',
            '{"cap": 5, "number": 2}',
            '{"cap": 3.0, "number": 3}',
        ]
