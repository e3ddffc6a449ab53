"""An upload that breaks off, or loses something on its way, is not a checkpoint."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from mrpo.checkpoint.manifest import MANIFEST, CheckpointError
from mrpo.checkpoint.store import CheckpointStore, Skipped
from mrpo.config.checkpoint import CheckpointConfig

from .checkpoints import NAMES, publish, require_whole
from .objects import URL, emptied, path, store_at

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def memory() -> MemoryFileSystem:
    return emptied()


def test_upload_that_loses_bytes_is_not_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lossy(self: MemoryFileSystem, local: str, remote: str, **options: Any) -> None:
        self.pipe_file(remote, Path(local).read_bytes()[:-1])

    store = store_at(tmp_path, 4)
    monkeypatch.setattr(MemoryFileSystem, "put_file", lossy)
    with pytest.raises(CheckpointError, match=f"upload of step-00000008: {NAMES[0]} is"):
        publish(store, 8)
    assert store.steps() == [4]


class BreaksOff(OSError):
    """The injected fault."""


def break_off_at(call: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the n-th change to the storage on, nothing gets through."""
    calls = 0

    def breaking(name: str) -> None:
        real = getattr(MemoryFileSystem, name)

        def act(self: MemoryFileSystem, *arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls >= call:
                raise BreaksOff
            return real(self, *arguments, **options)

        monkeypatch.setattr(MemoryFileSystem, name, act)

    for name in ("put_file", "pipe_file", "rm_file", "_rm", "rm"):
        breaking(name)


def test_writer_that_breaks_off_anywhere_leaves_whole_checkpoints_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # slow, and only of the local copy
    for call in range(1, 1000):
        memory = emptied()
        store = store_at(tmp_path / f"one{call}", 1, 2)
        told = 2
        with pytest.MonkeyPatch.context() as patch:
            break_off_at(call, patch)
            try:
                publish(store, 3)
                told = 3
                store.retain(CheckpointConfig(keep_last=1))
                told = 2
                store.rewind(2)
                finished = True
            except BreaksOff:
                finished = False
        again = CheckpointStore(URL, tmp_path / f"two{call}")
        for step in again.steps():
            require_whole(again.load(step))
        found = again.newest_whole().found
        assert finished or (found is not None and found.step >= told)
        if finished:
            assert call > 12
            break
        assert found is not None
        publish(again, found.step + 1)
        kept = {name.split("/")[3] for name in memory.store}
        assert kept == {f"step-{step:08d}" for step in again.steps()}


def test_upload_that_broke_off_is_told_and_then_removed(tmp_path: Path, memory: MemoryFileSystem) -> None:
    store = store_at(tmp_path / "one", 4, 8)
    memory.rm_file(path(8, MANIFEST))
    found, skipped = CheckpointStore(URL, tmp_path / "two").newest_whole()
    assert found is not None
    assert found.step == 4
    assert skipped == [Skipped("step-00000008", "has no manifest.json: it was never finished, or was given up")]
    publish(store, 12)
    assert not memory.exists(path(8, NAMES[0]))


def test_what_a_broken_off_upload_left_is_no_part_of_the_next(tmp_path: Path, memory: MemoryFileSystem) -> None:
    memory.pipe_file(path(4, "actor/rank_7.bin"), b"of four more ranks")
    publish(CheckpointStore(URL, tmp_path / "one"), 4)
    require_whole(CheckpointStore(URL, tmp_path / "two").load(4))
