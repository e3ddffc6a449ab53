"""Components come in two shapes, wrapped or bare: they are the same components."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tensordict import NonTensorData, TensorDict
from transfer_queue import KVBatchMeta

from mrpo.rewards.outcome import Outcome
from mrpo.rewards.wire import DETAILS, FAILURES, INDEX, PROMPT_HASH, encode
from mrpo.verl_seam.rows import data_order, row_components, split

pytestmark = pytest.mark.unit

NAMES = ("correct", "format")


def test_both_of_verls_shapes_give_the_same_components() -> None:
    sent = [
        encode({"correct": Outcome(1.0, details='{"pred": "5"}'), "format": Outcome(0.5)}),
        encode({"correct": Outcome(0), "format": Outcome()}),
    ]
    shapes: list[dict[str, Any]] = [
        {"extra_fields": [{"reward_extra_info": one} for one in sent]},
        {"extra_fields": [NonTensorData({"reward_extra_info": one}) for one in sent]},
        {name: [one[name] for one in sent] for name in sent[0]},
    ]
    for shape in shapes:
        assert row_components(shape, NAMES, 2) == [
            {"correct": 1.0, "format": 0.5, FAILURES: "", DETAILS: '{"correct": {"pred": "5"}}'},
            {"correct": 0.0, "format": None, FAILURES: "", DETAILS: ""},
        ]


def test_top_level_fields_come_as_tensors_too() -> None:
    data = TensorDict(
        {"score_correct": torch.tensor([1.0, 0.0]), "score_format": torch.tensor([0.5, 0.25])}, batch_size=2
    )
    assert row_components(data, NAMES, 2) == [{"correct": 1.0, "format": 0.5}, {"correct": 0.0, "format": 0.25}]


def test_a_number_may_come_as_a_0d_array() -> None:
    data = {
        "score_correct": [np.float32(1.0), np.array(0.0)],
        "score_format": [NonTensorData(0.5), NonTensorData(None)],
    }
    assert row_components(data, NAMES, 2) == [{"correct": 1.0, "format": 0.5}, {"correct": 0.0, "format": None}]


def test_a_batch_is_split_into_whole_groups_whoever_finished_first() -> None:
    keys = [f"{uid}_{sample}_0" for uid in ("c", "a", "d", "b") for sample in range(2)]
    for order in (keys, keys[::-1]):
        tags = [{"key": key} for key in order]
        parts = split(KVBatchMeta(partition_id="train", keys=list(order), tags=tags), 2)
        assert [sorted(part.keys) for part in parts] == [
            ["a_0_0", "a_1_0", "b_0_0", "b_1_0"],
            ["c_0_0", "c_1_0", "d_0_0", "d_1_0"],
        ]
        assert all(tag["key"] == key for part in parts for key, tag in zip(part.keys, part.tags, strict=True))


def test_a_validations_rows_are_in_the_order_of_the_data_whoever_finished_first() -> None:
    data = [("b", 1, 0), ("a", 0, 1), ("c", 2, 0), ("a", 0, 0), ("d", 1, 0)]
    tags = [{INDEX: index, PROMPT_HASH: uid} for uid, index, _ in data]
    ended = KVBatchMeta([f"{uid}_{sample}_0" for uid, _, sample in data], tags, "val")
    ended.reorder(data_order(ended))
    assert ended.keys == ["a_0_0", "a_1_0", "b_0_0", "d_0_0", "c_0_0"]
    assert [tag[INDEX] for tag in ended.tags] == [0, 0, 1, 1, 2]
