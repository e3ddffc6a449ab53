"""What a validation leaves of its rollouts: the same uids every time, whatever verl called the prompts."""

from __future__ import annotations

import random
from typing import Any

import pytest

from mrpo.budget.ids import prompt_id
from mrpo.rewards.outcome import Outcome
from mrpo.rewards.wire import decode, encode
from mrpo.step.seam import PromptContent, RolloutText, ValidationRow
from mrpo.step.validation import validation_records, with_gaps

pytestmark = pytest.mark.unit
NAMES = ("correct", "short")


def row(uid: str, prompt: str, response: str, sample: int = 0, turn: int = 0, **outcomes: Outcome) -> ValidationRow:
    content = PromptContent([{"role": "user", "content": prompt}], "4", "math")
    scores = decode(encode({"correct": Outcome(1.0), "short": Outcome(), **outcomes}))
    return ValidationRow(f"{uid}_{sample}_{turn}", content, RolloutText(prompt, response, "4", 7), scores)


def test_a_record_says_all_and_its_uid_is_the_prompts_content() -> None:
    failed = Outcome.failed("timeout", "no score within 60 s")
    correct = Outcome(1.0, details='{"extracted": "4"}')
    (record,) = validation_records([row("random", "2+2", "4", short=failed, correct=correct)], NAMES)
    assert record == {
        "uid": f"{prompt_id([{'role': 'user', 'content': '2+2'}], '4', 'math'):016x}",
        "sample": 0,
        "data_source": "math",
        "prompt": "2+2",
        "response": "4",
        "ground_truth": "4",
        "rewards": {"correct": 1.0, "short": None},
        "tokens": 7,
        "truncated": None,
        "failures": {"short": "timeout: no score within 60 s"},
        "details": {"correct": {"extracted": "4"}},
    }


def test_records_do_not_depend_on_who_finished_first_or_on_random_uids() -> None:
    def rows(names: str) -> list[ValidationRow]:
        return [row(name, f"{n}+{n}", f"{s}", s) for n, name in enumerate(names) for s in range(2)]

    shuffled = rows("xyz")
    random.Random(0).shuffle(shuffled)
    assert validation_records(shuffled, NAMES) == validation_records(rows("abc"), NAMES)


def test_the_last_turn_stands_for_a_rollout() -> None:
    turns = [row("a", "2+2", text, turn=turn) for turn, text in ((1, "second"), (2, "last"), (0, "first"))]
    assert [record["response"] for record in validation_records(turns, NAMES)] == ["last"]


def test_copies_of_a_prompt_are_more_samples_of_it() -> None:
    rows = [row("a", "2+2", "four", 0), row("b", "2+2", "4", 0), row("b", "2+2", "5", 1), row("a", "2+2", "4", 1)]
    records = validation_records(rows, NAMES)
    assert len({record["uid"] for record in records}) == 1
    assert [record["sample"] for record in records] == [0, 1, 2, 3]
    assert sorted(record["response"] for record in records) == ["4", "4", "5", "four"]


def test_an_absent_reward_is_an_error() -> None:
    with pytest.raises(KeyError, match="no reward 'polite'"):
        validation_records([row("a", "2+2", "4")], (*NAMES, "polite"))


def record(uid: str, a: float | None, b: float | None = None, source: str = "of/a") -> dict[str, Any]:
    return {"uid": uid, "data_source": source, "rewards": {"a": a, "b": b}}


def test_means_leave_missing_scores_out_and_cover_all_prompts() -> None:
    """Prompt x has one of its two scores, so that verl's means of x and of y stand apart, with another count each."""
    rows = [record("x", 1.0), record("x", None), record("y", 0.0), record("y", 0.5), record("z", None, 3.0, "b")]
    of_verl = {
        "val-aux/of%2Fa/a/mean@1": 1.0,
        "val-aux/of%2Fa/a/mean@2": 0.25,
        "val-core/of%2Fa/total/mean@2": 0.25,
        "val-aux/b/b/mean@2": 3.0,
        "val-aux/b/b/std@2": 0.0,
        "val-core/b/total/mean@2": 3.0,
    }
    assert with_gaps(of_verl, rows, {"a": 1.0, "b": 1.0}, 2) == {
        "val-aux/of%2Fa/a/mean@2": pytest.approx((1.0 + 0.25) / 2),
        "val-core/of%2Fa/total/mean@2": pytest.approx((1.0 + 0.25) / 2),
        "val-aux/b/b/mean@2": 3.0,
        "val-aux/b/b/std@2": 0.0,
        "val-core/b/total/mean@2": 3.0,
    }


def test_a_reward_without_any_score_has_no_mean_and_verls_own_stay_where_nothing_is_missing() -> None:
    rows, of_verl = (
        [record("x", 1.0), record("y", 0.0)],
        {"val-core/of%2Fa/a/mean@1": 7.0, "val-core/of%2Fa/total/mean@1": 8.0},
    )
    assert with_gaps(of_verl, rows, {"a": 1.0, "b": 1.0}, 1) == of_verl
    unscored = with_gaps({"val-core/of%2Fa/total/mean@1": 0.0}, [record("x", None)], {"a": 1.0, "b": 1.0}, 1)
    assert unscored == {}
