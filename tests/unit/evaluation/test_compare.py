"""Recorded rollouts of several models as one comparison."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mrpo.evaluation.compare import LENGTH, TRUNCATED, Line, compare

pytestmark = pytest.mark.unit
REWARDS: dict[str, Any] = {"correct": (0.0, 1.0), "short": None}


def row(uid: str, correct: float | None, short: float | None = 0.5, *, source: str = "math", **more: Any) -> dict:
    rewards = {"correct": correct, "short": short}
    return {"uid": uid, "sample": 0, "data_source": source, "rewards": rewards, "tokens": 4, **more}


def of(lines: list[Line], model: str, measure: str, source: str = "math") -> Line:
    (found,) = [x for x in lines if (x.model, x.measure, x.data_source) == (model, measure, source)]
    return found


def test_every_model_source_and_measure_has_a_line() -> None:
    rows = [row("a", 1.0), row("b", 0.0), row("a", 1.0, source="code")]
    lines = compare({"base": rows, "trained": rows}, REWARDS, 10)
    assert [(x.data_source, x.measure, x.model) for x in lines] == [
        (source, measure, model)
        for source in ("code", "math")
        for measure in ("correct", "short", LENGTH, TRUNCATED)
        for model in ("base", "trained")
    ]


def test_differences_are_by_prompt_whatever_the_order_of_the_rows() -> None:
    base = [row("a", 0.0), row("b", 1.0), row("c", 0.0)]
    trained = [row("c", 1.0), row("a", 0.0), row("b", 1.0)]
    lines = compare({"base": base, "trained": trained}, REWARDS, 10)
    found = of(lines, "trained", "correct")
    assert found.difference is not None
    assert found.difference.value == pytest.approx(1 / 3)
    assert found.difference.low == 0.0  # never worse on any prompt
    assert of(lines, "base", "correct").difference is None


def test_failed_and_inapplicable_rewards_are_counted_and_in_no_mean() -> None:
    rows = [row("a", None, failures={"correct": "timeout: 60 s"}), row("b", 1.0), row("c", None)]
    found = of(compare({"base": rows}, REWARDS, 10), "base", "correct")
    assert (found.prompts, found.rollouts, found.failed) == (1, 1, 1)
    assert found.mean is not None
    assert found.mean.value == 1.0


def test_a_response_that_ends_exactly_at_the_limit_is_not_truncated() -> None:
    rows = [
        row("a", 1.0, tokens=10, truncated=False),
        row("b", 1.0, tokens=10, truncated=True),
        row("c", 1.0, tokens=10),
    ]
    truncated = of(compare({"base": rows}, {"r": None}, 10), "base", TRUNCATED)
    assert truncated.mean is not None
    assert truncated.mean.value == pytest.approx(2 / 3)  # the third doesn't say, and counts by its length


def test_length_and_truncated_share() -> None:
    rows = [row("a", 1.0, tokens=10), row("a", 1.0, tokens=2), row("b", 1.0, tokens=6)]
    lines = compare({"base": rows}, REWARDS, 10)
    length, truncated = of(lines, "base", LENGTH), of(lines, "base", TRUNCATED)
    assert length.mean is not None
    assert truncated.mean is not None
    assert (length.mean.value, truncated.mean.value) == (6.0, 0.25)


def test_pass_at_k_is_of_rewards_that_only_fail_or_succeed() -> None:
    rows = [row("a", float(n == 0), n / 4) for n in range(4)] + [row("b", 0.0) for _ in range(4)]
    lines = compare({"base": rows}, REWARDS, 10)
    assert {k: one.value for k, one in of(lines, "base", "correct").pass_at.items()} == {1: 0.125, 2: 0.25, 4: 0.5}
    assert of(lines, "base", "short").pass_at == {}
    assert of(compare({"base": [row("a", 1.0)]}, REWARDS, 10), "base", "correct").pass_at == {}  # one sample


def test_a_prompt_whose_row_is_there_twice_makes_no_pass_at_2() -> None:
    """It would be of that prompt alone, beside a mean over all of them."""
    rows = [row("a", 1.0), row("b", 1.0), row("twice", 0.0), row("twice", 0.0)]
    assert of(compare({"base": rows}, REWARDS, 10), "base", "correct").pass_at == {}
    with_a_failed_score = [row(uid, 1.0) for uid in "aabbcc"][:-1]
    assert list(of(compare({"base": with_a_failed_score}, REWARDS, 10), "base", "correct").pass_at) == [1, 2]


def test_success_is_the_upper_end_of_the_range() -> None:
    rows = [row("a", -1.0), row("a", 3.0)]
    found = of(compare({"base": rows}, {"correct": (-1.0, 3.0), "short": None}, 10), "base", "correct")
    assert found.pass_at[2].value == 1.0
    assert found.pass_at[1].value == 0.5


def test_models_that_answered_other_prompts_are_refused() -> None:
    with pytest.raises(ValueError, match="not asked the same prompts: 2 differ"):
        compare({"base": [row("a", 1.0)], "trained": [row("b", 1.0)]}, REWARDS, 10)


def test_a_line_is_plain_json() -> None:
    lines = compare({"base": [row("a", 1.0), row("a", 0.0), row("b", 0.0), row("b", 0.0)]}, REWARDS, 10)
    found = json.loads(json.dumps(lines[0].as_json(), allow_nan=False))
    assert found["mean"]["value"] == 0.25
    assert found["pass_at"]["2"]["value"] == 0.5
    assert found["difference"] is None


def test_a_reward_may_be_called_like_a_measure() -> None:
    rows = [row("a", 1.0) | {"rewards": {TRUNCATED: 0.25}, "tokens": 10}]
    found = [line.mean for line in compare({"base": rows}, {TRUNCATED: None}, 10) if line.measure == TRUNCATED]
    assert [one and one.value for one in found] == [0.25, 1.0]
