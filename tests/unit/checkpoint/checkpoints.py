"""Small checkpoints, and ways to break them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from mrpo.checkpoint.manifest import MANIFEST
from mrpo.checkpoint.store import CheckpointStore, Found

IDENTITY = {"seed": 0, "versions.torch": "2.13.0"}
NAMES = ("actor/rank_0.bin", "actor/rank_1.bin", "state/history.npz", "done")


def content(step: int, name: str) -> bytes:
    """What the file holds at that step; ``done`` is empty."""
    return b"" if name == "done" else f"{name} of step {step} ".encode() * 50


def publish(store: CheckpointStore, step: int, **info: float) -> Found:
    """A checkpoint of four files. ``info``: its metrics."""
    staging = store.staging(step)
    for name in NAMES:
        (staging / name).parent.mkdir(exist_ok=True)
        (staging / name).write_bytes(content(step, name))
    return store.publish(staging, step, metrics=info, extra={"identity": IDENTITY})


def stored(root: Path, *steps: int) -> CheckpointStore:
    """A store with checkpoints of these steps."""
    store = CheckpointStore(root)
    for step in steps:
        publish(store, step)
    return store


def require_whole(found: Found) -> None:
    """It holds exactly what ``publish`` wrote."""
    files = {p.relative_to(found.folder).as_posix(): p.read_bytes() for p in found.folder.rglob("*") if p.is_file()}
    del files[MANIFEST]
    assert files == {name: content(found.step, name) for name in NAMES}


def hidden(root: Path) -> list[str]:
    """Names of what the store doesn't show."""
    return sorted(path.name for path in root.iterdir() if path.name.startswith("."))


def truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 1)


def cut_to_nothing(file: Path) -> None:
    os.truncate(file, 0)


def append(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\0")


def flip_a_bit(file: Path) -> None:
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)


def remove(file: Path) -> None:
    file.unlink()


def make_a_folder_of(file: Path) -> None:
    file.unlink()
    file.mkdir()


def make_a_link_of(file: Path) -> None:
    elsewhere = file.parents[2] / "elsewhere"
    file.rename(elsewhere)
    file.symlink_to(elsewhere)


Damage = Callable[[Path], None]
OF_ANY_FILE: list[Damage] = [remove, append, make_a_folder_of]
OF_CONTENT: list[Damage] = [truncate, cut_to_nothing, flip_a_bit]
