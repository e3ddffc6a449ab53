"""An object storage in this process's memory, and checkpoints in it."""

from __future__ import annotations

from pathlib import Path

import fsspec
from fsspec.implementations.memory import MemoryFileSystem

from mrpo.checkpoint.store import CheckpointStore

from .checkpoints import publish

URL = "memory://bucket/run"


def emptied() -> MemoryFileSystem:
    """The storage, of which there is one in a process, without anything in it."""
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]
    return memory


def path(step: int, name: str) -> str:
    return f"/bucket/run/step-{step:08d}/{name}"


def store_at(scratch: Path, *steps: int) -> CheckpointStore:
    """A store with checkpoints of these steps, as a machine with this local folder sees it."""
    store = CheckpointStore(URL, scratch)
    for step in steps:
        publish(store, step)
    return store
