"""A row that comes back from a file is the row that went into it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transfer_queue import KVBatchMeta
from verl.utils.tensordict_utils import list_of_dict_to_tensordict

from mrpo.checkpoint.manifest import CheckpointError
from mrpo.checkpoint.plain import load_state, save_state
from mrpo.verl_seam import saved_rows
from mrpo.verl_seam.columns import Columns, items
from mrpo.verl_seam.row_store import FIELDS, fields_mark
from mrpo.verl_seam.saved_rows import columns_of, restore, rows_in, rows_of, store

pytestmark = pytest.mark.unit


def row(uid: str, prompt: int, response: int, **more: Any) -> dict[str, Any]:
    ids = torch.arange(prompt + response)
    return {
        "uid": uid,
        "prompts": ids[:prompt],
        "responses": ids[prompt:],
        "response_mask": torch.ones(response, dtype=torch.int64),
        "rollout_log_probs": torch.randn(response),
        "num_turns": torch.tensor(2),
        "raw_prompt": [{"role": "user", "content": "2+2"}],
        "reward_model": {"ground_truth": ["4", 4, None]},
        "extra_fields": {"reward_extra_info": {"score_correct": float("nan")}, "truncated": True, **more},
        "multi_modal_inputs": {},
    }


def stored(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As they are after verl has made a tensordict of them."""
    fields = list_of_dict_to_tensordict(rows)
    return rows_in({name: items(column) for name, column in fields.items()})


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 9)), min_size=1, max_size=6))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=20)
def test_rows_come_back_as_they_were(tmp_path: Path, lengths: list[tuple[int, int]]) -> None:
    rows = [row(f"uid-{i}", *of, number=np.float32(i)) for i, of in enumerate(lengths)]
    save_state(tmp_path / "rows.npz", columns_of(stored(rows)))
    back = rows_of(load_state(tmp_path / "rows.npz"), len(rows))
    assert len(back) == len(rows)
    for before, after in zip(rows, back, strict=True):
        assert before.keys() == after.keys()
        for name, value in before.items():
            if isinstance(value, torch.Tensor):
                assert value.dtype == after[name].dtype
                assert torch.equal(value, after[name].reshape(value.shape))
            else:
                assert repr(value) == repr(after[name])


class CommonFields:
    """Of TransferQueue, that it reads of several rows what all of them have, and drops the rest without a word."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Any]] = {}

    def kv_batch_put(self, keys: list[str], fields: Any, tags: Any, partition_id: str) -> None:
        self.rows |= zip(keys, rows_in({name: items(column) for name, column in fields.items()}), strict=True)

    def get(self, partition: str, keys: list[str]) -> Columns:
        common = set.intersection(*(set(self.rows[key]) for key in keys))
        return {name: [self.rows[key][name] for key in keys] for name in common}


def test_a_field_that_only_some_rows_have_is_saved_and_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of an agent whose last output has what a teacher says of its tokens."""
    rows = {f"uid-{i}_0_{turn}": row(f"uid-{i}", 1 + i, 2 + turn) for i in range(3) for turn in range(2)}
    for key, of in rows.items():
        if key.endswith("_1"):
            of |= {"teacher_logprobs": torch.randn(len(of["responses"])), "verdict": {"of": key}}
    before, after = CommonFields(), CommonFields()
    before.rows = rows
    tags = [{FIELDS: fields_mark(of), "status": "success"} for of in rows.values()]
    monkeypatch.setattr(saved_rows.columns, "get", before.get)
    store(KVBatchMeta(partition_id="train", keys=list(rows), tags=tags), {"a": 1.0}, tmp_path / "rows.npz")
    monkeypatch.setattr(saved_rows, "tq", after)
    batch, metrics = restore(tmp_path / "rows.npz")
    assert (batch.keys, batch.tags, metrics) == (list(rows), tags, {"a": 1.0})
    assert after.rows.keys() == rows.keys()
    for key, of in rows.items():
        assert after.rows[key].keys() == of.keys()
        assert after.rows[key].get("verdict") == of.get("verdict")
        assert all(torch.equal(after.rows[key][name], of[name]) for name in of if name.endswith(("probs", "ses")))


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    rows = [row("uid-0", 1, 2, judge=object())]
    with pytest.raises(TypeError, match=r"extra_fields\[0\]\.judge: can't save a object without pickle"):
        save_state(tmp_path / "rows.npz", columns_of(stored(rows)))


@pytest.mark.parametrize("broken", ["no keys", "other keys", "a row less", "not a row"])
def test_a_file_of_something_else_is_no_batch(broken: str, tmp_path: Path) -> None:
    state: dict[str, Any] = columns_of(stored([row(f"uid-{i}", 1, 2) for i in range(3)]))
    state |= {"keys": [f"uid-{i}_0_0" for i in range(3)], "tags": [{}] * 3, "metrics": {}}
    match broken:
        case "no keys":
            del state["keys"]
        case "other keys":
            state["keys"] = state["keys"][::-1]
        case "a row less":
            state["others"]["uid"] = state["others"]["uid"][:2]
        case "not a row":
            state["ragged"]["prompts"] = 3
    save_state(tmp_path / "rows.npz", state)
    with pytest.raises(CheckpointError, match=r"rows\.npz: no batch of rollouts"):
        restore(tmp_path / "rows.npz")
