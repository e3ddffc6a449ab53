"""Rows into and out of TransferQueue's own storage, column by column, without what its interface makes of them on the
way.

``tq.kv_batch_put`` (0.1.x) wants a column as one nested tensor, which it takes apart three times, for the rows' shapes
and for the rows: a millisecond a row of short responses, ten times what its message costs. What it sends is a list of
values a column, and that is what rows are to begin with. The shapes go to its controller, and from there with every
answer to whoever asks for rows, but its own storage doesn't go by them. ``tq.kv_batch_get`` wraps each value for a
tensordict, to be unwrapped again, and both copy the rows' tags up to four times. Another backend is asked by them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
import transfer_queue as tq
from tensordict import NonTensorData, TensorDict
from transfer_queue.storage.managers.simple_storage_manager import AsyncSimpleStorageManager
from verl.utils.tensordict_utils import list_of_dict_to_tensordict

Columns = dict[str, list[Any]]
"""Fields of rows, by name: a value a row, tensors for what is ragged."""
PIECE = 1024
"""Rows that are read at a time."""
RAGGED: dict[str, Any] = {"dtype": None, "shape": None, "is_nested": None, "is_non_tensor": True}
"""What TransferQueue's controller is told of a column: nothing that a later put of tensors could contradict."""

T = TypeVar("T")


async def put(
    partition: str, keys: Sequence[str], rows: Sequence[Mapping[str, Any]], tags: Sequence[dict[str, Any]]
) -> None:
    """Store ``rows``, all of the same fields, under their keys, and then their tags.

    Raises:
        RuntimeError: TransferQueue didn't take them.
    """
    client = tq.get_client()
    if not _is_own(client):  # another backend goes by what it finds in a tensor
        fields = list_of_dict_to_tensordict([dict(row) for row in rows])
        await tq.async_kv_batch_put(keys=list(keys), fields=fields, tags=list(tags), partition_id=partition)
        return
    meta = await _meta(client, partition, keys, create=True)
    meta.update_custom_meta(list(tags))
    await _send(client, partition, meta.global_indexes, {name: [row[name] for row in rows] for name in rows[0]})
    await client.async_set_custom_meta(meta)


def add(partition: str, keys: Sequence[str], fields: Mapping[str, Any]) -> list[str]:
    """Store more fields of rows that are there: of each a tensor, nested or not, or a list. Returns the names of all
    fields that the rows have then.

    Raises:
        RuntimeError: rows are missing, or TransferQueue didn't take them.
    """
    return _done(_add(partition, keys, fields))


def get(partition: str, keys: Sequence[str], fields: Sequence[str] | None = None) -> Columns:
    """These fields (None: all) of these rows, or those of them that all of the rows have.

    Raises:
        RuntimeError: rows are missing: TransferQueue drops unknown keys with a mere warning.
    """
    return _done(_get(partition, keys, fields)) if keys and (fields is None or fields) else {}


async def _add(partition: str, keys: Sequence[str], fields: Mapping[str, Any]) -> list[str]:
    client = tq.get_client()
    meta = await _meta(client, partition, keys)
    if _is_own(client):
        await _send(client, partition, meta.global_indexes, fields)
    else:
        await tq.async_kv_batch_put(
            keys=list(keys), partition_id=partition, fields=TensorDict(dict(fields), batch_size=len(keys))
        )
    return sorted({*meta.field_names, *fields})


async def _get(partition: str, keys: Sequence[str], fields: Sequence[str] | None) -> Columns:
    client = tq.get_client()
    meta = await _meta(client, partition, keys)
    names = [name for name in (meta.field_names if fields is None else fields) if name in meta.field_schema]
    columns: Columns = {name: [] for name in names}
    for first in range(0, len(keys) if names else 0, PIECE):
        some = slice(first, first + PIECE)
        if _is_own(client):
            data = await _receive(client, meta.global_indexes[some], names)
        else:
            data = await tq.async_kv_batch_get(keys=list(keys[some]), partition_id=partition, select_fields=names)
        for name, column in columns.items():
            column.extend(items(data[name]))
            if len(column) != min(first + PIECE, len(keys)):
                raise RuntimeError(f"TransferQueue returned {len(column)} of {len(keys)} rows of {name}")
    return columns


async def _meta(client: Any, partition: str, keys: Sequence[str], create: bool = False) -> Any:
    meta = await client.async_kv_retrieve_meta(keys=list(keys), partition_id=partition, create=create)
    if meta.size != len(keys):
        raise RuntimeError(f"TransferQueue has {meta.size} of {len(keys)} rows of {partition}")
    return meta


async def _send(client: Any, partition: str, indexes: Sequence[int], columns: Mapping[str, Any]) -> None:
    manager = client.storage_manager

    def sent(unit: str, group: Any) -> Callable[[], Awaitable[Any]]:
        own = {name: manager._select_by_positions(column, group.batch_positions) for name, column in columns.items()}
        return partial(manager._put_to_single_storage_unit, group.global_indexes, own, target_storage_unit=unit)

    await _of_units(manager, "put", indexes, columns, sent)
    await manager.notify_data_update(partition, list(indexes), dict.fromkeys(columns, RAGGED))


async def _receive(client: Any, indexes: Sequence[int], names: Sequence[str]) -> Columns:
    manager = client.storage_manager

    def asked(unit: str, group: Any) -> Callable[[], Awaitable[Any]]:
        return partial(
            manager._get_from_single_storage_unit, group.global_indexes, list(names), target_storage_unit=unit
        )

    columns: Columns = {name: [None] * len(indexes) for name in names}
    for group, (_, data) in await _of_units(manager, "get", indexes, names, asked):
        for name, column in columns.items():
            for place, value in zip(group.batch_positions, data[name], strict=True):
                column[place] = value
    return columns


async def _of_units(
    manager: Any, what: str, indexes: Sequence[int], names: Any, request: Callable[[str, Any], Callable[[], Any]]
) -> list[tuple[Any, Any]]:
    """What each storage unit answers to the request about its own rows."""
    units = manager._group_by_hash(list(indexes))
    answers = await asyncio.gather(
        *(
            manager._request_with_retry(
                what, unit, f"samples={len(group.global_indexes)} fields={list(names)}", request(unit, group)
            )
            for unit, group in units.items()
        )
    )
    return list(zip(units.values(), answers, strict=True))


def _is_own(client: Any) -> bool:
    return type(client.storage_manager) is AsyncSimpleStorageManager


def _done(work: Coroutine[Any, Any, T]) -> T:
    """On the loop of TransferQueue's client, as its own calls that wait are."""
    done: T = tq.get_client()._run_coroutine(work)
    return done


def items(column: Any) -> list[Any]:
    """The rows of a field, of any of the shapes that TransferQueue returns."""
    if isinstance(column, torch.Tensor):
        return list(column.unbind())
    return [value if isinstance(value, torch.Tensor) else plain(value) for value in column]


def plain(value: Any) -> Any:
    """verl's non-tensor fields come wrapped or bare, by TransferQueue backend; numbers also as 0-d arrays."""
    if isinstance(value, NonTensorData):
        value = value.data
    return value.item() if isinstance(value, torch.Tensor | np.generic | np.ndarray) and value.ndim == 0 else value
