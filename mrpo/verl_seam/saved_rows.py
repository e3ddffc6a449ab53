"""Rows of a batch in a file, so that a checkpoint can hold them: tokens, log-probabilities, scores, and what else they
have. Shapes: M rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
import transfer_queue as tq
from tensordict import TensorDict
from transfer_queue import KVBatchMeta
from verl.utils.tensordict_utils import list_of_dict_to_tensordict

from mrpo.checkpoint.manifest import CheckpointError
from mrpo.checkpoint.plain import UNREADABLE, load_state, save_state
from mrpo.step.rollouts import RowKey
from mrpo.verl_seam.rows import PARTITION, items


def store(batch: KVBatchMeta, metrics: Mapping[str, Any], file: Path) -> None:
    """Write all that TransferQueue has of a batch's rows.

    Raises:
        RuntimeError: rows are missing.
        TypeError: a row holds what can't be written without pickle.
    """
    data = tq.kv_batch_get(keys=batch.keys, partition_id=PARTITION)
    if len(data) != len(batch.keys):
        raise RuntimeError(f"TransferQueue returned {len(data)} of the {len(batch.keys)} rows to save")
    named = {"keys": list(batch.keys), "tags": list(batch.tags), "metrics": dict(metrics)}
    save_state(file, named | columns_of(data))


def restore(file: Path) -> tuple[KVBatchMeta, dict[str, Any]]:
    """Put what ``store`` has written into TransferQueue again. Returns the batch and its metrics.

    Raises:
        CheckpointError: the file holds something else.
    """
    state = load_state(file)
    try:
        keys, tags, fields = state["keys"], state["tags"], rows_of(state)
        uids = [RowKey.parse(key).uid for key in keys]
        if len(tags) != len(keys) or uids != [row["uid"] for row in fields]:
            raise ValueError("its rows are not those that its keys name")
    except UNREADABLE as error:
        raise CheckpointError(f"{file}: no batch of rollouts: {type(error).__name__}: {error}") from error
    tq.kv_batch_put(keys=keys, fields=list_of_dict_to_tensordict(fields), tags=tags, partition_id=PARTITION)
    return KVBatchMeta(partition_id=PARTITION, keys=keys, tags=tags), state["metrics"]


def columns_of(data: TensorDict) -> dict[str, dict[str, Any]]:
    """M rows as plain values (``save_state``): ragged fields as all their values and M lengths, others by row."""
    columns: dict[str, dict[str, Any]] = {"ragged": {}, "even": {}, "others": {}}
    for name in map(str, data.keys()):
        column = items(data[name])
        if not isinstance(column[0], torch.Tensor):
            columns["others"][name] = column
        elif column[0].ndim == 1:
            columns["ragged"][name] = torch.cat(column), torch.tensor([len(row) for row in column])
        else:
            columns["even"][name] = torch.stack(column)
    return columns


def rows_of(columns: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The fields of each of the M rows, as before ``columns_of``. Raises ValueError if columns differ in M."""
    found = dict(columns["others"])
    found |= {name: value.unbind() for name, value in columns["even"].items()}
    found |= {name: values.split(cast(Any, lengths).tolist()) for name, (values, lengths) in columns["ragged"].items()}
    return [dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True)]
