"""What rollouts leave, on its way into TransferQueue: many prompts in one message, and the word that they have ended.

A prompt's key says whether it is pending, finished or has failed; verl's trainer waits for that, and then reads the
rows. So a prompt is finished when its rows are stored, never before.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import transfer_queue as tq

from mrpo.verl_seam import columns
from mrpo.verl_seam.batched import Batcher, Call

FIELDS = "fields"
"""In a row's tag: which fields it has (``fields_mark``)."""


def fields_mark(names: Iterable[str]) -> str:
    """The same for rows of the same fields. TransferQueue reads of several rows only what all of them have."""
    return hashlib.blake2b("/".join(sorted(names)).encode(), digest_size=4).hexdigest()


class Row(NamedTuple):
    """What TransferQueue holds of an output of a rollout."""

    key: str
    fields: dict[str, Any]
    tag: dict[str, Any]


class Rows(NamedTuple):
    """Those of a prompt."""

    partition: str
    rows: Sequence[Row]


class End(NamedTuple):
    """How a prompt's rollouts ended: ``finished`` or ``failure``, as verl calls it."""

    partition: str
    uid: str
    status: str


class RowStore:
    """Stores prompts' rows and ends. While a message to TransferQueue is under way, what comes waits for the next.

    Attributes:
        ended: how many prompts' ends are stored, and how often one has come to a point at which it waits.
    """

    def __init__(self) -> None:
        self.ended = 0
        self._lost: list[str] = []
        self._change = asyncio.Condition()
        self._rows: Batcher[Rows, None] = Batcher(self._put_rows, in_turn=True)
        self._ends: Batcher[End, None] = Batcher(self._put_ends, in_turn=True)

    async def finish(self, uid: str, partition: str, rows: Sequence[Row]) -> None:
        """Store the rows, then that the prompt has finished. Raises what TransferQueue raised for them."""
        await self._rows(Rows(partition, rows))
        await self._ends(End(partition, uid, "finished"))

    async def fail(self, uid: str, partition: str) -> None:
        """Store that the prompt has failed. If even that can't be stored, whoever waits for an end is told."""
        try:
            await self._ends(End(partition, uid, "failure"))
        except Exception as error:
            async with self._change:
                self._lost.append(f"{uid} ({type(error).__name__}: {error})")
                self._change.notify_all()

    async def count(self) -> None:
        """A prompt waits for a decision: as for an end, somebody is to look."""
        async with self._change:
            self.ended += 1
            self._change.notify_all()

    async def wait_for_end(self, seen: int) -> int:
        """``ended``, as soon as it is more than ``seen``.

        Raises:
            RuntimeError: prompts have failed, and TransferQueue couldn't be told: which, and why.
        """
        async with self._change:
            await self._change.wait_for(lambda: self.ended > seen or self._lost)
        if self._lost:
            raise RuntimeError(f"TransferQueue can't be told that these prompts have failed: {', '.join(self._lost)}")
        return self.ended

    async def _put_rows(self, calls: Sequence[Call[Rows, None]]) -> None:
        try:
            await _put(calls)
        except Exception:
            if len(calls) == 1:
                raise
            await asyncio.gather(*map(_put_alone, calls))  # the rows of one prompt may be what can't be stored
        for call in calls:
            call.settle(None)

    async def _put_ends(self, calls: Sequence[Call[End, None]]) -> None:
        for partition in {call.item.partition for call in calls}:
            ends = [call.item for call in calls if call.item.partition == partition]
            tags = [{"status": end.status} for end in ends]
            await tq.async_kv_batch_put(keys=[end.uid for end in ends], tags=tags, partition_id=partition)
        for call in calls:
            call.settle(None)
        async with self._change:
            self.ended += len(calls)
            self._change.notify_all()


async def _put(calls: Sequence[Call[Rows, None]]) -> None:
    """At once, but for rows that have other fields, as an agent's last output may."""
    alike: dict[tuple[str, ...], list[Row]] = {}
    for call in calls:
        for row in call.item.rows:
            alike.setdefault((call.item.partition, *row.fields), []).append(row)
    for (partition, *_), rows in alike.items():
        keys, fields, tags = zip(*rows, strict=True)
        mark = {FIELDS: fields_mark(fields[0])}
        await columns.put(partition, keys, fields, [tag | mark for tag in tags])


async def _put_alone(call: Call[Rows, None]) -> None:
    try:
        await _put([call])
    except Exception as error:
        call.fail(error)
