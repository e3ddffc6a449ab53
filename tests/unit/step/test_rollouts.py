"""Rows are joined by key: whatever order, padding, turns and shape they come in."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch

from mrpo.rewards.outcome import Outcome
from mrpo.rewards.wire import FAILURES, decode, encode
from mrpo.step.outcome import rollout_records
from mrpo.step.rollouts import BatchRow, RowKey, select_rollouts
from mrpo.step.seam import RolloutText

pytestmark = pytest.mark.unit

NAMES = ("correct", "format")


def component(uid: str, sample: int) -> dict[str, Any]:
    """Scores that say whose they are."""
    return {"correct": float(sum(map(ord, uid))), "format": float(sample), FAILURES: ""}


def row(key: str, components: dict[str, Any] | None = None, **more: Any) -> BatchRow:
    parsed = RowKey.parse(key)
    return BatchRow(key, component(parsed.uid, parsed.sample) if components is None else components, 7, **more)


def test_a_rollouts_scores_stay_with_its_key_in_any_order_of_rows() -> None:
    keys = [f"{uid}_{sample}_0" for uid, n in (("a-1", 3), ("b-2", 1), ("c-3", 5)) for sample in range(n)]
    random.Random(0).shuffle(keys)
    rollouts = select_rollouts([row(key) for key in keys], NAMES)
    for key, scores, group in zip(
        rollouts.keys, rollouts.rewards_NK.tolist(), rollouts.group_ids_N.tolist(), strict=True
    ):
        assert scores == [float(sum(map(ord, key.uid))), float(key.sample)]
        assert {rollouts.keys[i].uid for i in np.flatnonzero(rollouts.group_ids_N.numpy() == group)} == {key.uid}
    assert rollouts.group_sizes == {"a-1": 3, "b-2": 1, "c-3": 5}


def test_padding_rows_belong_to_no_rollout() -> None:
    rollouts = select_rollouts([row("a_0_0"), row("pad_0_0", is_padding=True), row("a_1_0")], NAMES)
    assert [key.sample for key in rollouts.keys] == [0, 1]
    assert rollouts.rollout_of_M.tolist() == [0, -1, 1]
    assert rollouts.row_of_N.tolist() == [0, 2]


def test_of_several_outputs_the_last_stands_for_the_rollout_and_all_belong_to_it() -> None:
    keys = ["a_0_1", "a_1_0", "a_0_0", "a_0_2"]
    rollouts = select_rollouts([row(key, {"correct": float(i), "format": 0.0}) for i, key in enumerate(keys)], NAMES)
    assert [(key.sample, key.turn) for key in rollouts.keys] == [(0, 2), (1, 0)]
    assert rollouts.rewards_NK[:, 0].tolist() == [3.0, 1.0]
    assert rollouts.rollout_of_M.tolist() == [0, 1, 0, 0]


def test_whether_a_response_was_truncated_stays_with_its_key_for_unselected_ones_too() -> None:
    seen = [{"sample": s, "components": component("a", s), "length": 7, "truncated": s == 2} for s in range(3)]
    batch = [row("b_0_0", truncated=True), row("a_1_0", seen=seen, truncated=False), row("p_0_0", is_padding=True)]
    rollouts = select_rollouts([*batch, row("c_0_1", truncated=True), row("c_0_0", truncated=False)], NAMES)
    of_key = {(key.uid, key.sample): one for key, one in zip(rollouts.keys, rollouts.truncated, strict=True)}
    assert of_key == {("a", 0): False, ("a", 1): False, ("a", 2): True, ("b", 0): True, ("c", 0): True}


def test_rollouts_that_were_seen_but_not_selected_count_without_a_row() -> None:
    seen = [{"sample": s, "components": component("a", s), "length": 10 + s} for s in range(4)]
    rollouts = select_rollouts([row("a_3_0", seen=seen), row("b_0_0"), row("a_1_0", seen=seen)], NAMES)
    assert rollouts.group_sizes == {"a": 4, "b": 1}
    by_key = {key[:2]: i for i, key in enumerate(rollouts.keys)}
    assert rollouts.selected_N.tolist() == [False, True, False, True, True]
    unselected = [key[:2] for key, selected in zip(rollouts.keys, rollouts.selected_N, strict=True) if not selected]
    assert unselected == [("a", 0), ("a", 2)]
    assert [rollouts.rewards_NK[by_key["a", s], 1].item() for s in range(4)] == [0.0, 1.0, 2.0, 3.0]
    assert rollouts.lengths_N[by_key["a", 2]] == 12
    assert rollouts.rollout_of_M.tolist() == [3, 4, 1]


def test_rollouts_are_in_the_order_of_their_keys_whoever_finished_first() -> None:
    keys = ["a_0_0", "a_1_0", "a_10_0", "b_0_0"]
    for order in (keys, keys[::-1]):
        assert [str(key) for key in select_rollouts([row(k) for k in order], NAMES).keys] == keys


def test_a_missing_score_is_nan_and_a_missing_component_is_an_error_that_names_it() -> None:
    rollouts = select_rollouts([row("a_0_0", {"correct": None, "format": 1.0})], NAMES)
    assert rollouts.rewards_NK.isnan().tolist() == [[True, False]]
    with pytest.raises(KeyError, match="rollout a_0_0 has no reward 'format'"):
        select_rollouts([row("a_0_0", {"correct": 1.0})], NAMES)


def test_failures_keep_their_cause() -> None:
    info = decode(encode({"correct": Outcome(1.0), "format": Outcome(failure="ZeroDivisionError: x")}))
    assert select_rollouts([row("a_0_0", info)], NAMES).failures == [{"format": "ZeroDivisionError: x"}]


def test_what_a_function_returned_besides_its_score_is_in_the_record_of_its_rollout() -> None:
    told = [encode({"correct": Outcome(float(n), details=f'{{"steps": {n}}}'), "format": Outcome()}) for n in range(2)]
    rollouts = select_rollouts([row(f"a_{n}_0", decode(told[n])) for n in (1, 0)] + [row("b_0_0")], NAMES)
    texts = [RolloutText("p", str(n), "t", 1) for n in range(3)]
    records = rollout_records(rollouts, lambda: texts, torch.zeros(3), torch.ones(3), NAMES)
    assert [record.get("details") for record in records] == [{"correct": {"steps": 0}}, {"correct": {"steps": 1}}, None]


def test_some_of_the_rollouts_stay_what_they_are_under_the_same_groups() -> None:
    batch = [row("a_0_0", truncated=True), row("b_0_0"), row("p_0_0", is_padding=True), row("b_1_0"), row("c_0_0")]
    rollouts = select_rollouts(batch, NAMES)
    some = rollouts.only(torch.tensor([False, True, False, True]))
    assert [str(key) for key in some.keys] == ["b_0_0", "c_0_0"]
    assert some.group_ids_N.tolist() == [1, 2]
    assert some.row_of_N.tolist() == [1, 4]
    assert some.rollout_of_M.tolist() == [-1, 0, -1, -1, 1]
    assert torch.equal(some.rewards_NK, rollouts.rewards_NK[[1, 3]])
    assert len(some.failures) == len(some.details) == len(some.truncated) == len(some.versions) == 2
