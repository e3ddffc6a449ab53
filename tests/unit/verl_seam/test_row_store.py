"""A prompt is finished when its rows are stored, and what can't be stored fails under its own name."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from mrpo.verl_seam import row_store
from mrpo.verl_seam.row_store import Row, RowStore

pytestmark = pytest.mark.unit


class FaultyQueue:
    """TransferQueue, which refuses rows with the field ``bad``, and ends while it is ``deaf``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.deaf = False
        self.events: list[tuple[str, list[str]]] = []
        monkeypatch.setattr(row_store.columns, "put", self.put)
        monkeypatch.setattr(row_store.tq, "async_kv_batch_put", self.put_ends)

    async def put(self, partition: str, keys: Sequence[str], rows: Sequence[Mapping[str, Any]], tags: Any) -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        if any(row.get("bad") for row in rows):
            raise ValueError("no room for bad rows")
        self.events.append((f"rows of {partition}", list(keys)))

    async def put_ends(self, keys: Sequence[str], tags: Sequence[dict[str, str]], partition_id: str) -> None:
        await asyncio.sleep(0)
        if self.deaf:
            raise ConnectionError("nobody listens")
        self.events += [(tag["status"], [key]) for key, tag in zip(keys, tags, strict=True)]


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> FaultyQueue:
    return FaultyQueue(monkeypatch)


def rows(uid: str, n: int = 2, **fields: Any) -> list[Row]:
    return [Row(f"{uid}_{i}_0", {"length": i, **fields}, {"status": "success"}) for i in range(n)]


async def finish_all(store: RowStore, *prompts: list[Row]) -> list[Any]:
    uids = [some[0].key.partition("_")[0] for some in prompts]
    every = (store.finish(uid, "train", some) for uid, some in zip(uids, prompts, strict=True))
    return await asyncio.gather(*every, return_exceptions=True)


def test_prompts_that_end_together_are_stored_by_one_message_before_they_are_finished(queue: FaultyQueue) -> None:
    assert asyncio.run(finish_all(RowStore(), rows("p"), rows("q"))) == [None, None]
    assert queue.events[0] == ("rows of train", ["p_0_0", "p_1_0", "q_0_0", "q_1_0"])
    assert sorted(queue.events[1:]) == [("finished", ["p"]), ("finished", ["q"])]


def test_rows_with_other_fields_go_by_a_message_of_their_own(queue: FaultyQueue) -> None:
    assert asyncio.run(finish_all(RowStore(), [*rows("p", 1), *rows("p", 1, image=1)], rows("q"))) == [None, None]
    assert [keys for what, keys in queue.events if what == "rows of train"] == [["p_0_0", "q_0_0", "q_1_0"], ["p_0_0"]]


def test_a_prompt_whose_rows_are_refused_fails_alone(queue: FaultyQueue) -> None:
    good, bad, other = asyncio.run(finish_all(RowStore(), rows("p"), rows("q", bad=True), rows("r")))
    assert (good, str(bad), other) == (None, "no room for bad rows", None)
    assert sorted(keys for what, keys in queue.events if what == "finished") == [["p"], ["r"]]


def test_whoever_waits_is_woken_by_an_end_and_not_before(queue: FaultyQueue) -> None:
    async def main() -> tuple[bool, int, int]:
        store = RowStore()
        first = asyncio.ensure_future(store.wait_for_end(0))
        for _ in range(20):
            await asyncio.sleep(0)
        early = first.done()
        await finish_all(store, rows("p"), rows("q"))
        seen = await first
        await store.fail("r", "train")
        return early, seen, await store.wait_for_end(seen)

    assert asyncio.run(asyncio.wait_for(main(), 5)) == (False, 2, 3)


def test_a_failure_that_cannot_be_stored_is_known_by_the_prompts_name(queue: FaultyQueue) -> None:
    async def main() -> None:
        store = RowStore()
        waiting = asyncio.ensure_future(store.wait_for_end(0))
        queue.deaf = True
        await store.fail("p", "train")
        await waiting

    with pytest.raises(RuntimeError, match=r"p \(ConnectionError: nobody listens\)"):
        asyncio.run(asyncio.wait_for(main(), 5))
