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

from mrpo.verl_seam import columns

pytestmark = pytest.mark.unit

LENGTHS = [3, 1, 4, 1]
KEYS = list("pqrs")


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
    """The last step of a put or a get, to storage units and the controller."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.stored: dict[int, dict[str, Any]] = {}
        self.schema: dict[str, Any] = {}
        self.tags: list[Any] = []
        self.manager = cast(Any, AsyncSimpleStorageManager.__new__(AsyncSimpleStorageManager))
        self.manager.storage_manager_id = "m"
        self.manager.storage_unit_infos = {"a": None, "b": None}
        self.manager._put_to_single_storage_unit = self._unit
        self.manager._get_from_single_storage_unit = self._asked
        self.manager.notify_data_update = self._notify
        client = SimpleNamespace(
            storage_manager=self.manager,
            async_kv_retrieve_meta=self._meta,
            async_set_custom_meta=self._tags,
            _run_coroutine=asyncio.run,
        )
        monkeypatch.setattr(columns.tq, "get_client", lambda: client)

    async def _meta(self, keys: list[str], partition_id: str, create: bool) -> BatchMeta:
        """TransferQueue leaves out keys that it doesn't know, and fields that not all of the rows have."""
        known = [place for place, key in enumerate(KEYS) if key in keys]
        found = meta(len(KEYS)).select_samples(known)
        if self.stored:
            of_rows = [set(self.stored[index]) for index in found.global_indexes]
            found.field_schema.update({name: {} for name in set.intersection(*of_rows)})
            found._field_names = sorted(found.field_schema)
        return found

    async def _unit(self, indexes: list[int], data: dict[str, Any], target_storage_unit: str, **_: Any) -> None:
        sent = decode(encode(data))
        for place, index in enumerate(indexes):
            self.stored.setdefault(index, {}).update({name: column[place] for name, column in sent.items()})

    async def _asked(self, indexes: list[int], names: list[str], target_storage_unit: str) -> tuple[Any, Any]:
        answer = {name: [self.stored[index][name] for index in indexes] for name in names}
        return names, decode(encode(answer))

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
    asyncio.run(columns.put("train", KEYS, rows(), tags))
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


@pytest.mark.parametrize("piece", [1, 3, 1024])
def test_rows_are_read_as_they_were_stored_and_in_the_order_of_their_keys(
    piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    Recorder(monkeypatch)
    monkeypatch.setattr(columns, "PIECE", piece)
    asyncio.run(columns.put("train", KEYS, rows(), [{}] * len(KEYS)))
    found = columns.get("train", KEYS)
    assert found.keys() == rows()[0].keys()
    for name, column in found.items():
        for before, after in zip((row[name] for row in rows()), column, strict=True):
            assert torch.equal(before, after) if isinstance(before, torch.Tensor) else before == after
    assert columns.get("train", KEYS, ["uid", "nothing"]) == {"uid": ["p0", "p1", "p2", "p3"]}
    assert columns.get("train", KEYS, ["nothing"]) == columns.get("train", [], ["uid"]) == {}
    with pytest.raises(RuntimeError, match="TransferQueue has 3 of 4 rows of train"):
        columns.get("train", [*KEYS[1:], "other"], ["uid"])


def test_fields_are_added_to_rows_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    of = Recorder(monkeypatch)
    asyncio.run(columns.put("train", KEYS, rows(), [{"seq_len": 1}] * len(KEYS)))
    of.tags.clear()
    even = torch.arange(8.0).reshape(4, 2)
    ragged = torch.nested.nested_tensor([torch.ones(length) for length in LENGTHS], layout=torch.jagged)
    names = columns.add("train", KEYS, {"even": even, "ragged": ragged, "uid": list("abcd")})
    assert names == sorted({*rows()[0], "even", "ragged"})
    found = columns.get("train", KEYS, ["even", "ragged", "uid"])
    assert [row.tolist() for row in found["even"]] == even.tolist()
    assert [len(row) for row in found["ragged"]] == LENGTHS
    assert found["uid"] == list("abcd")
    assert of.tags == []  # they stay as they are
    with pytest.raises(RuntimeError, match="TransferQueue has 3 of 4 rows of train"):
        columns.add("train", [*KEYS[1:], "other"], {"even": even})


def test_a_column_can_be_written_again_by_transfer_queues_own_put() -> None:
    """Masks are: rollouts that leave the loss lose theirs, and rows are padded by copies."""
    nested = {"dtype": torch.float32, "shape": None, "is_nested": True, "is_non_tensor": False}
    dense = {"dtype": torch.float32, "shape": (4,), "is_nested": False, "is_non_tensor": False}
    for own_first in (True, False):
        field = FieldMeta({0, 1}, **columns.RAGGED)
        if not own_first:  # of a step before
            field.remove_samples([0, 1])
            field.update({**nested, "per_sample_shapes": {0: (3,), 1: (2,)}}, [0, 1])
            field.update(columns.RAGGED, [2, 3])
        field.update({**nested, "per_sample_shapes": {0: (3,), 1: (2,)}}, [0, 1])
        field.update(dense, [4])
        field.to_batch_schema([0, 1, 4])
        field.remove_samples([0])
        field.update({**nested, "per_sample_shapes": {1: (2,)}}, [1])
        field.remove_samples([1, 2, 3, 4])
