"""A process that is killed while it saves, retains or goes back: the store shows whole checkpoints only.

(SIGKILL leaves what was handed to the kernel. That files reach the disk before the rename is not tested here.)
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mrpo.checkpoint.store import CheckpointStore
from mrpo.config.checkpoint import CheckpointConfig

from .checkpoints import publish, require_whole, stored

pytestmark = pytest.mark.unit

CHANGES = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"}
RETAIN = CheckpointConfig(keep_last=2)


def child(act: Callable[[Callable[[int], None]], None]) -> tuple[int, int]:
    """Run ``act`` in a forked process. Its id, and a pipe of the numbers that ``act`` passes on."""
    reading, writing = os.pipe()
    if pid := os.fork():
        os.close(writing)
        return pid, reading
    try:
        act(lambda number: (os.write(writing, f"{number}\n".encode()), None)[1])
        os._exit(0)
    finally:
        os._exit(1)


def ending(pid: int, pipe: int) -> tuple[int, list[int]]:
    """The exit code (negative: the signal), and all numbers."""
    with os.fdopen(pipe) as numbers:
        told = [int(line) for line in numbers]
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), told


def require_only_whole(root: Path) -> CheckpointStore:
    store = CheckpointStore(root)
    for step in store.steps():
        require_whole(store.load(step))
    return store


def die_at(change: int) -> None:
    """Kill this process just before its n-th change to the file system."""
    left = change

    def hook(event: str, arguments: tuple) -> None:
        nonlocal left
        if event in CHANGES:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def test_killed_before_each_change_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # slow, and of no use against a kill
    stored(tmp_path / "before", 1, 2)
    partial = renamed = change = 0
    while True:
        change += 1
        root = tmp_path / str(change)
        shutil.copytree(tmp_path / "before", root)

        def run(tell: Callable[[int], None], root: Path = root, change: int = change) -> None:
            store = CheckpointStore(root)
            die_at(change)
            publish(store, 3)
            tell(3)
            store.retain(RETAIN)
            tell(3)
            store.rewind(2)
            tell(2)
            publish(store, 3)
            tell(3)

        code, told = ending(*child(run))
        store = require_only_whole(root)
        newest = store.newest_whole().found
        assert newest is not None
        assert newest.step >= {0: 2, 1: 3, 2: 2, 3: 2, 4: 3}[len(told)]
        names = [path.name for path in root.iterdir()]
        partial += any(name.endswith("partial") for name in names)
        renamed += any(name.endswith(("removed", "given-up")) for name in names)
        publish(store, newest.step + 1)
        assert not [path for path in root.iterdir() if path.name.startswith(".")]
        require_only_whole(root)
        shutil.rmtree(root)
        if code == 0:
            break
        assert code == -signal.SIGKILL
    assert min(partial, renamed) >= 10


def test_killed_at_random_instants_over_and_over(tmp_path: Path) -> None:
    chance = random.Random(0)
    newest, cut_short = 0, 0

    def run(tell: Callable[[int], None]) -> None:
        store = CheckpointStore(tmp_path)
        for step in range(newest + 1, sys.maxsize):
            publish(store, step)
            tell(step)
            store.retain(RETAIN)

    for _ in range(40):
        pid, pipe = child(run)
        time.sleep(chance.uniform(0, 0.1))
        os.kill(pid, signal.SIGKILL)
        code, told = ending(pid, pipe)
        assert code == -signal.SIGKILL
        cut_short += any(path.name.startswith(".") for path in tmp_path.iterdir())
        store = require_only_whole(tmp_path)
        found = store.newest_whole().found
        assert (found.step if found else 0) >= max(told, default=newest)
        newest = found.step if found else 0
    assert newest >= 2
    assert cut_short >= 2
