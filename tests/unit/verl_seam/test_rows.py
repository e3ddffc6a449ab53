"""Components come in two shapes, wrapped or bare: they are the same components."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tensordict import NonTensorData, TensorDict
from transfer_queue import KVBatchMeta

from mrpo.rewards.wire import FAILURES
from mrpo.verl_seam.rows import row_components, split

pytestmark = pytest.mark.unit

NAMES = ("correct", "format")


def test_both_of_verls_shapes_give_the_same_components() -> None:
    values: list[dict[str, Any]] = [
        {"correct": 1.0, "format": 0.5, FAILURES: ""},
        {"correct": 0.0, "format": None, FAILURES: ""},
    ]
    nested: dict[str, Any] = {"extra_fields": [{"reward_extra_info": v} for v in values]}
    flat: dict[str, Any] = {name: [v[name] for v in values] for name in (*NAMES, FAILURES)}
    wrapped: dict[str, Any] = {"extra_fields": [NonTensorData({"reward_extra_info": v}) for v in values]}
    assert row_components(nested, NAMES, 2) == row_components(flat, NAMES, 2) == row_components(wrapped, NAMES, 2)


def test_top_level_fields_come_as_tensors_too() -> None:
    data = TensorDict({"correct": torch.tensor([1.0, 0.0]), "format": torch.tensor([0.5, 0.25])}, batch_size=2)
    assert row_components(data, NAMES, 2) == [{"correct": 1.0, "format": 0.5}, {"correct": 0.0, "format": 0.25}]


def test_a_number_may_come_as_a_0d_array() -> None:
    data = {"correct": [np.float32(1.0), np.array(0.0)], "format": [NonTensorData(0.5), NonTensorData(None)]}
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
