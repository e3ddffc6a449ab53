"""Which groups dynamic sampling drops, where a reward has no score in some rollouts; asked by verl's own buffer."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

import pytest
from omegaconf import OmegaConf
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

from mrpo.advantages import as_config
from mrpo.rewards.wire import FAILURES, SEEN, TRUNCATED
from mrpo.step.outcome import INFORMATIVE_SHARE
from mrpo.step.rollouts import BatchRow, select_rollouts
from mrpo.verl_seam import group_filter
from mrpo.verl_seam.group_filter import GroupFilter, shared_scores, without_advantage

pytestmark = pytest.mark.unit
NAMES = ["a", "b"]


def group(uid: str, scores: list[tuple[float | None, float | None]], failed: str = "") -> list[BatchRow]:
    failures = json.dumps({failed: "timeout: no score"}) if failed else ""
    return [BatchRow(f"{uid}_{i}_0", {"a": a, "b": b, FAILURES: failures}, 1) for i, (a, b) in enumerate(scores)]


@pytest.mark.parametrize(
    ("scores", "of_a", "of_total"),
    [
        ([(1, 0), (1, 0)], 1, 1),
        ([(1, 0), (1, 1)], 1, None),
        ([(1, None), (1, None)], 1, 1),
        ([(None, 1), (None, 0)], None, None),
        ([(None, 1), (None, 1)], None, 0.5),
        ([(None, None), (None, None)], None, None),
        ([(1, None), (None, 1)], None, None),
        ([(1, None), (1, None), (None, None)], 1, 1),
        ([(1, None)], None, None),
        ([(0.1, 0)] * 7, 0.1, 0.1),
    ],
)
def test_a_group_is_dropped_where_all_scores_that_there_are_agree(
    scores: list[tuple[float | None, float | None]], of_a: float | None, of_total: float | None
) -> None:
    rollouts = select_rollouts(group("x", scores), NAMES)
    assert shared_scores(rollouts, {"a": 1.0, "b": 0.0}).get("x") == of_a
    assert shared_scores(rollouts, {"a": 1.0, "b": 0.5}).get("x") == of_total


def test_a_group_with_a_failed_reward_stays_so_that_the_failure_is_counted() -> None:
    rollouts = select_rollouts(group("x", [(1, None), (1, None)], failed="b"), NAMES)
    assert shared_scores(rollouts, {"a": 1.0, "b": 0.5}) == {}
    assert shared_scores(rollouts, {"a": 1.0, "b": 0.0}) == {"x": 1}


def test_rollouts_that_were_seen_and_not_selected_count() -> None:
    seen = [{"sample": i, "components": {"a": float(i > 1), "b": None, FAILURES: ""}, "length": 1} for i in range(3)]
    rows = [BatchRow(f"x_{i}_0", {"a": 0.0, "b": None, FAILURES: ""}, 1, seen=seen) for i in range(2)]
    assert shared_scores(select_rollouts(rows, NAMES), {"a": 1.0, "b": 0.0}) == {}


def test_asking_the_estimator_counts_what_it_counts() -> None:
    """Rewards that cancel in the sum teach GDPO where their weights differ, and nothing where they don't; a condition
    that nobody meets leaves nothing to compare; one score alone is not comparable; a failure has to be counted."""
    cancels = select_rollouts(group("x", [(1, 0), (0, 1)]), NAMES)
    equal = {"estimator": "gdpo", "names": NAMES}
    weighted = {**equal, "weights": {"a": 1.0, "b": 0.5}}
    assert without_advantage(cancels, as_config(equal)) == {"x": 0}
    assert without_advantage(cancels, as_config(weighted)) == {}
    assert without_advantage(cancels, as_config({**equal, "estimator": "dara"})) == {}, "its factors are the batch's"
    unmet = select_rollouts(group("x", [(0, 0), (0, 1)]), NAMES)
    gate = {**weighted, "conditions": [{"reward": "b", "requires": "a", "threshold": 1}]}
    assert without_advantage(unmet, as_config(weighted)) == {}
    assert without_advantage(unmet, as_config(gate)) == {"x": 0}
    alone = select_rollouts(group("x", [(1, None), (None, 1)]), NAMES)
    assert without_advantage(alone, as_config(weighted)) == {"x": 0}
    failed = select_rollouts(group("x", [(1, None), (1, None)], failed="b"), NAMES)
    assert without_advantage(failed, as_config(weighted)) == {}


def test_of_what_the_total_throws_away_the_share_that_would_have_taught_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """u1: a and b trade half a point of the total, which GDPO sees; u2: constant; u3: the total varies."""
    scores: dict[str, list[tuple[float, float]]] = {
        "u1": [(1, 0), (0.5, 1)],
        "u2": [(1, 1), (1, 1)],
        "u3": [(0, 0), (1, 1)],
    }
    stored = {f"{uid}_{i}_0": pair for uid, pairs in scores.items() for i, pair in enumerate(pairs)}

    def get(partition: str, keys: list[str], fields: list[str]) -> Any:
        rows = [{"score_a": stored[key][0], "score_b": stored[key][1], FAILURES: ""} for key in keys]
        return {"extra_fields": [{"reward_extra_info": row, SEEN: (), TRUNCATED: False} for row in rows]}

    monkeypatch.setattr(group_filter, "get", get)
    config, weighted = OmegaConf.create({}), as_config({"names": NAMES, "weights": {"a": 2.0, "b": 1.0}})
    how: dict[str, Any] = {"max_off_policy_threshold": None, "max_off_policy_strategy": "drop"}
    for what, dropped, share in (
        ("total", {"u1", "u2"}, {INFORMATIVE_SHARE: 0.5}),
        ("b", {"u2"}, {INFORMATIVE_SHARE: 0.0}),
        ("advantage", {"u2"}, {}),
    ):
        buffer = ReplayBuffer("sync", config, sampler_kwargs=config, refill_fn=print, filter_groups_metric="x", **how)
        buffer.partitions["train"] = {key: {} for key in stored}
        buffer.finished_keys["train"] = {*scores}
        of_groups = GroupFilter(buffer, what, lambda: weighted)
        assert buffer._terminal_eviction_reasons(1, "train")[1] == dropped
        assert buffer._terminal_eviction_reasons(1, "train")[1] == dropped
        assert of_groups.take_metrics() == share
        assert of_groups.take_metrics() == {}


def test_of_a_group_the_truncated_are_not_compared_and_one_that_is_left_with_less_than_two_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Marked by "t". Of the groups, u1 varies, u2 does but for what is masked, u3 is left with one, u4 with none; in u5
    a reward failed; u6 has one rollout, which nothing masks."""
    scores = {"u1": "01t1", "u2": "001t", "u3": "01t", "u4": "0t1t", "u5": "0t1t", "u6": "1"}
    stored = {
        f"{uid}_{i}_0": (float(score), mark == "t", uid == "u5")
        for uid, text in scores.items()
        for i, (score, mark) in enumerate(re.findall(r"(\d)(t?)", text))
    }

    def get(partition: str, keys: list[str], fields: list[str]) -> Any:
        rows = [
            {"score_a": None if failed else score, FAILURES: json.dumps({"a": "timeout: late"}) if failed else ""}
            for score, _, failed in map(stored.__getitem__, keys)
        ]
        marks = [stored[key][1] for key in keys]
        return {
            "extra_fields": [
                {"reward_extra_info": row, SEEN: (), TRUNCATED: mark} for row, mark in zip(rows, marks, strict=True)
            ]
        }

    monkeypatch.setattr(group_filter, "get", get)
    config = OmegaConf.create({})
    how: dict[str, Any] = {"max_off_policy_threshold": None, "max_off_policy_strategy": "drop"}
    for truncated, dropped in (("keep", set[str]()), ("mask", {"u2", "u3", "u4"})):
        settings = as_config({"names": ["a"], "truncated": truncated})
        buffer = ReplayBuffer("sync", config, sampler_kwargs=config, refill_fn=print, filter_groups_metric="x", **how)
        buffer.partitions["train"] = {key: {} for key in stored}
        buffer.finished_keys["train"] = {*scores}
        GroupFilter(buffer, "a", lambda settings=settings: settings)  # type: ignore[misc]
        assert buffer._terminal_eviction_reasons(1, "train")[1] == dropped


def test_verls_buffer_asks_once_for_each_finished_group(monkeypatch: pytest.MonkeyPatch) -> None:
    scores: dict[str, Any] = {
        "u1_0_0": 1.0,
        "u1_1_0": 1.0,
        "u2_0_0": None,
        "u2_1_0": None,
        "u3_0_0": 0.0,
        "u3_1_0": 1.0,
    }
    truncated = {"u3_0_0": True}
    asked: list[str] = []

    def stored(partition: str, keys: list[str], fields: list[str]) -> Any:
        """Faulty where verl's own decision fails: some rollouts have no score."""
        asked.extend(keys)
        return {
            "extra_fields": [
                {
                    "reward_extra_info": {"score_a": scores[key], FAILURES: ""},
                    SEEN: (),
                    TRUNCATED: key in truncated,
                }
                for key in keys
            ]
        }

    monkeypatch.setattr(group_filter, "get", stored)
    config = OmegaConf.create({})
    how: dict[str, Any] = {"max_off_policy_threshold": None, "max_off_policy_strategy": "drop"}
    buffer = ReplayBuffer("sync", config, sampler_kwargs=config, refill_fn=print, filter_groups_metric="score_a", **how)
    buffer.partitions["train"] = {key: {} for key in scores}
    buffer.finished_keys["train"] = {"u1", "u2", "u3"}
    GroupFilter(buffer, "a", lambda: as_config({"names": ["a"]}))
    reasons = buffer._terminal_eviction_reasons(1, "train")
    assert (reasons[1], reasons[3]) == ({"u1"}, Counter({1.0: 1}))
    assert buffer._sampleable_terminal_keys("train", reasons) == {"u2", "u3"}
    assert buffer._terminal_eviction_reasons(1, "train")[1] == {"u1"}
    assert sorted(asked) == sorted(scores)
    assert buffer._terminal_eviction_reasons(1, "val")[1] == set()
