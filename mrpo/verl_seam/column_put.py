"""A put of rows into TransferQueue's own storage without a nested tensor on the way.

``tq.kv_batch_put`` (0.1.x) wants a column as one nested tensor, which it takes apart three times, for the rows' shapes
and for the rows: a millisecond a row of short responses, ten times what its message costs. What it sends is a list of
tensors a column, and that is what rows are to begin with. The shapes go to its controller, and from there with every
answer to whoever asks for rows, but its own storage doesn't go by them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import transfer_queue as tq
from transfer_queue.storage.managers.simple_storage_manager import AsyncSimpleStorageManager
from verl.utils.tensordict_utils import list_of_dict_to_tensordict

RAGGED: dict[str, Any] = {"dtype": None, "shape": None, "is_nested": None, "is_non_tensor": True}
"""What TransferQueue's controller is told of a column: nothing that a later put of tensors could contradict."""


async def put(
    partition: str, keys: Sequence[str], rows: Sequence[Mapping[str, Any]], tags: Sequence[dict[str, Any]]
) -> None:
    """Store ``rows``, all of the same fields, under their keys, and then their tags.

    Raises:
        RuntimeError: TransferQueue didn't take them.
    """
    client = tq.get_client()
    manager: Any = client.storage_manager
    if type(manager) is not AsyncSimpleStorageManager:  # another backend goes by what it finds in a tensor
        fields = list_of_dict_to_tensordict([dict(row) for row in rows])
        await tq.async_kv_batch_put(keys=list(keys), fields=fields, tags=list(tags), partition_id=partition)
        return
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    meta = await client.async_kv_retrieve_meta(keys=list(keys), partition_id=partition, create=True)
    if meta.size != len(keys):
        raise RuntimeError(f"TransferQueue has room for {meta.size} of {len(keys)} rows")
    meta.update_custom_meta(list(tags))
    units = manager._group_by_hash(meta.global_indexes)
    await asyncio.gather(*(_send(manager, unit, group, columns) for unit, group in units.items()))
    await manager.notify_data_update(partition, meta.global_indexes, dict.fromkeys(columns, RAGGED))
    await client.async_set_custom_meta(meta)


async def _send(manager: Any, unit: str, group: Any, columns: Mapping[str, Sequence[Any]]) -> None:
    """To one storage unit the rows that are its own."""
    indexes, own = group.global_indexes, {name: [c[i] for i in group.batch_positions] for name, c in columns.items()}
    request = partial(manager._put_to_single_storage_unit, indexes, own, target_storage_unit=unit)
    await manager._request_with_retry("put", unit, f"samples={len(indexes)} fields={list(own)}", request)
