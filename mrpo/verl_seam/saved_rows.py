"""Rows of a batch in a file, so that a checkpoint can hold them: tokens, log-probabilities, scores, and what else they
have, which may not be the same for all. Shapes: M rows."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
import transfer_queue as tq
from transfer_queue import KVBatchMeta
from verl.utils.tensordict_utils import list_of_dict_to_tensordict

from mrpo.checkpoint.manifest import CheckpointError
from mrpo.checkpoint.plain import UNREADABLE, load_state, save_state
from mrpo.step.rollouts import RowKey
from mrpo.verl_seam import columns
from mrpo.verl_seam.row_store import FIELDS
from mrpo.verl_seam.rows import PARTITION

Row = dict[str, Any]


def store(batch: KVBatchMeta, metrics: Mapping[str, Any], file: Path) -> None:
    """Write all that TransferQueue has of a batch's rows.

    Raises:
        RuntimeError: rows are missing.
        TypeError: a row holds what can't be written without pickle.
    """
    rows: dict[int, Row] = {}
    for numbers in alike(tag.get(FIELDS) for tag in batch.tags):
        rows |= zip(numbers, rows_in(columns.get(PARTITION, [batch.keys[i] for i in numbers])), strict=True)
    named = {"keys": list(batch.keys), "tags": list(batch.tags), "metrics": dict(metrics)}
    save_state(file, named | columns_of([rows[i] for i in range(len(rows))]))


def restore(file: Path) -> tuple[KVBatchMeta, dict[str, Any]]:
    """Put what ``store`` has written into TransferQueue again. Returns the batch and its metrics.

    Raises:
        CheckpointError: the file holds something else.
    """
    state = load_state(file)
    try:
        keys, tags, fields = state["keys"], state["tags"], rows_of(state, len(state["keys"]))
        uids = [RowKey.parse(key).uid for key in keys]
        if len(tags) != len(keys) or uids != [row["uid"] for row in fields]:
            raise ValueError("its rows are not those that its keys name")
    except UNREADABLE as error:
        raise CheckpointError(f"{file}: no batch of rollouts: {type(error).__name__}: {error}") from error
    for numbers in alike(map(frozenset, fields)):
        named: dict[str, Any] = {"keys": [keys[i] for i in numbers], "tags": [tags[i] for i in numbers]}
        tq.kv_batch_put(
            **named, fields=list_of_dict_to_tensordict([fields[i] for i in numbers]), partition_id=PARTITION
        )
    return KVBatchMeta(partition_id=PARTITION, keys=keys, tags=tags), state["metrics"]


def alike(marks: Iterable[Hashable]) -> list[list[int]]:
    """The numbers of rows of the same mark, for each mark.

    >>> alike(["a", "b", "a"])
    [[0, 2], [1]]
    """
    found: dict[Hashable, list[int]] = {}
    for number, mark in enumerate(marks):
        found.setdefault(mark, []).append(number)
    return list(found.values())


def rows_in(fields: columns.Columns) -> list[Row]:
    """Rows of the same fields."""
    return [dict(zip(fields, row, strict=True)) for row in zip(*fields.values(), strict=True)]


def columns_of(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """M rows as plain values (``save_state``): ragged fields as all their values and M lengths, others by row. ``some``
    has the numbers of the rows with a field that not all have."""
    columns: dict[str, dict[str, Any]] = {"ragged": {}, "even": {}, "others": {}, "some": {}}
    for name in dict.fromkeys(name for row in rows for name in row):
        numbers = [i for i, row in enumerate(rows) if name in row]
        if len(numbers) < len(rows):
            columns["some"][name] = numbers
        column = [rows[i][name] for i in numbers]
        if not isinstance(column[0], torch.Tensor):
            columns["others"][name] = column
        elif column[0].ndim == 1:
            columns["ragged"][name] = torch.cat(column), torch.tensor([len(row) for row in column])
        else:
            columns["even"][name] = torch.stack(column)
    return columns


def rows_of(columns: Mapping[str, Mapping[str, Any]], size: int) -> list[Row]:
    """The fields of each of the M rows, as before ``columns_of``. Raises ValueError if a column is of other rows."""
    found = dict(columns["others"])
    found |= {name: value.unbind() for name, value in columns["even"].items()}
    found |= {name: values.split(cast(Any, lengths).tolist()) for name, (values, lengths) in columns["ragged"].items()}
    rows: list[Row] = [{} for _ in range(size)]
    for name, values in found.items():
        for number, value in zip(columns.get("some", {}).get(name, range(size)), values, strict=True):
            rows[number][name] = value
    return rows
