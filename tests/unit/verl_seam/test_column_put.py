"""What reaches TransferQueue's storage units and its controller is what its own put of the same rows sends."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from transfer_queue.controller import FieldMeta
from transfer_queue.metadata import BatchMeta
from transfer_queue.storage.managers.simple_storage_manager import AsyncSimpleStorageManager
from transfer_queue.utils.serial_utils import decode, encode
from verl.utils.tensordict_utils import list_of_dict_to_tensordict

from mrpo.verl_seam import column_put

pytestmark = pytest.mark.unit

LENGTHS = [3, 1, 4, 1]


def rows() -> list[dict[str, Any]]:
    return [
        {
            "responses": torch.arange(length),
            "rollout_log_probs": torch.full((length,), -0.5),
            "prompts": torch.tensor([7, 8]),
            "features": torch.ones(length, 2),
            "uid": f"p{place}",
            "extra_fields": {"response_text": "abc", "score": None},
        }
        for place, length in enumerate(LENGTHS)
    ]


class Recorder:
    """The last step of a put, to storage units and the controller."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.stored: dict[int, dict[str, Any]] = {}
        self.schema: dict[str, Any] = {}
        self.tags: list[Any] = []
        self.manager = cast(Any, AsyncSimpleStorageManager.__new__(AsyncSimpleStorageManager))
        self.manager.storage_manager_id = "m"
        self.manager.storage_unit_infos = {"a": None, "b": None}
        self.manager._put_to_single_storage_unit = self._unit
        self.manager.notify_data_update = self._notify
        client = SimpleNamespace(
            storage_manager=self.manager, async_kv_retrieve_meta=self._meta, async_set_custom_meta=self._tags
        )
        monkeypatch.setattr(column_put.tq, "get_client", lambda: client)

    async def _meta(self, keys: list[str], partition_id: str, create: bool) -> BatchMeta:
        return meta(len(keys))

    async def _unit(self, indexes: list[int], data: dict[str, Any], target_storage_unit: str, **_: Any) -> None:
        sent = decode(encode(data))
        for place, index in enumerate(indexes):
            self.stored[index] = {name: column[place] for name, column in sent.items()}

    async def _notify(self, partition: str, indexes: list[int], schema: dict[str, Any]) -> None:
        self.schema = schema

    async def _tags(self, meta: BatchMeta) -> None:
        self.tags = meta.custom_meta


def meta(count: int) -> BatchMeta:
    return BatchMeta(global_indexes=[5 + i for i in range(count)], partition_ids=["train"] * count)


def test_the_rows_arrive_as_by_transfer_queues_own_put(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = Recorder(monkeypatch), Recorder(monkeypatch)
    asyncio.run(theirs.manager.put_data(list_of_dict_to_tensordict(rows()), meta(len(LENGTHS))))
    ours = Recorder(monkeypatch)
    tags = [{"seq_len": length} for length in LENGTHS]
    asyncio.run(column_put.put("train", list("pqrs"), rows(), tags))
    assert ours.tags == tags
    assert sorted(ours.stored) == sorted(theirs.stored) == [5, 6, 7, 8]
    for index, row in theirs.stored.items():
        assert ours.stored[index].keys() == row.keys()
        for name, value in row.items():
            mine = ours.stored[index][name]
            if isinstance(value, torch.Tensor):
                assert mine.dtype == value.dtype
                assert torch.equal(mine, value)
            else:
                assert mine == value
    assert ours.schema.keys() == theirs.schema.keys()


def test_a_column_can_be_written_again_by_transfer_queues_own_put() -> None:
    """Masks are: rollouts that leave the loss lose theirs, and rows are padded by copies."""
    nested = {"dtype": torch.float32, "shape": None, "is_nested": True, "is_non_tensor": False}
    dense = {"dtype": torch.float32, "shape": (4,), "is_nested": False, "is_non_tensor": False}
    for own_first in (True, False):
        field = FieldMeta({0, 1}, **column_put.RAGGED)
        if not own_first:  # of a step before
            field.remove_samples([0, 1])
            field.update({**nested, "per_sample_shapes": {0: (3,), 1: (2,)}}, [0, 1])
            field.update(column_put.RAGGED, [2, 3])
        field.update({**nested, "per_sample_shapes": {0: (3,), 1: (2,)}}, [0, 1])
        field.update(dense, [4])
        field.to_batch_schema([0, 1, 4])
        field.remove_samples([0])
        field.update({**nested, "per_sample_shapes": {1: (2,)}}, [1])
        field.remove_samples([1, 2, 3, 4])
