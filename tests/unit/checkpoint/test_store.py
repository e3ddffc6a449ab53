"""Publishing, going back, and what dead writers leave."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mrpo.checkpoint.folder import ABANDONED_SECONDS
from mrpo.checkpoint.manifest import CheckpointError
from mrpo.checkpoint.store import CheckpointStore, Skipped

from .checkpoints import NAMES, flip_a_bit, hidden, publish, require_whole, stored

pytestmark = pytest.mark.unit


# ---- publishing ----


def test_published_checkpoint_comes_back_with_what_was_said_of_it(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    staging = store.staging(12)
    (staging / "a").write_bytes(b"abc")
    metrics = {"reward/total/mean": 0.5, "train/entropy": float("nan")}
    store.publish(staging, 12, attempt=3, metrics=metrics, extra={"seed": 1})
    found = CheckpointStore(tmp_path).load(12)
    assert (found.folder / "a").read_bytes() == b"abc"
    assert (found.manifest.attempt, found.manifest.extra) == (3, {"seed": 1})
    assert found.manifest.metrics == {"reward/total/mean": 0.5}
    assert hidden(tmp_path) == []


def test_disk_has_every_file_and_folder_before_the_checkpoint_appears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    appeared_after = 0
    real_sync, real_rename = os.fsync, os.rename

    def sync(descriptor: int) -> None:
        real_sync(descriptor)
        synced.append(os.fstat(descriptor).st_ino)

    def rename(source: Path, target: Path) -> None:
        nonlocal appeared_after
        appeared_after = len(synced)
        real_rename(source, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "rename", rename)
    folder = stored(tmp_path, 4).load(4).folder
    inside = {path.stat().st_ino for path in (folder, *folder.rglob("*"))}
    assert set(synced[:appeared_after]) == inside
    assert synced[appeared_after:] == [tmp_path.stat().st_ino]


def test_staged_checkpoint_is_not_visible(tmp_path: Path) -> None:
    store = stored(tmp_path, 4)
    store.staging(8)
    found, skipped = store.newest_whole()
    assert found is not None
    assert (found.step, skipped) == (4, [])


def test_steps_are_in_numeric_order(tmp_path: Path) -> None:
    store = stored(tmp_path, 100, 9, 123456789)
    assert store.steps() == [9, 100, 123456789]
    assert store.load(123456789).folder.name == "step-123456789"


def test_whole_step_is_not_published_twice(tmp_path: Path) -> None:
    store = stored(tmp_path, 4)
    with pytest.raises(CheckpointError, match="step-00000004 exists"):
        publish(store, 4)
    require_whole(store.load(4))


def test_damaged_step_is_published_anew_in_its_place(tmp_path: Path) -> None:
    store = stored(tmp_path, 4)
    flip_a_bit(tmp_path / "step-00000004" / NAMES[0])
    publish(CheckpointStore(tmp_path), 4)
    require_whole(store.load(4))
    assert hidden(tmp_path) == []


def test_link_among_the_files_is_refused(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    staging = store.staging(4)
    (staging / "weights").symlink_to("/etc")
    with pytest.raises(CheckpointError, match="weights is not a plain file"):
        store.publish(staging, 4)


def test_step_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no checkpoint of step 5. There are: \[4, 8\]"):
        stored(tmp_path, 4, 8).load(5)


# ---- what dead writers leave ----


def test_earlier_staging_of_the_same_store_is_removed(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    given_up = store.staging(4)
    store.staging(8)
    assert not given_up.exists()


def test_staging_of_a_dead_process_is_told_and_then_removed(tmp_path: Path) -> None:
    code = f"from mrpo.checkpoint.store import CheckpointStore; CheckpointStore({str(tmp_path)!r}).staging(8)"
    subprocess.run([sys.executable, "-c", code], check=True)
    store = CheckpointStore(tmp_path)
    assert store.newest_whole() == (None, [Skipped("step-00000008", "was never finished")])
    publish(store, 4)
    assert hidden(tmp_path) == []


def test_staging_of_a_live_process_stays(tmp_path: Path) -> None:
    code = (
        f"from mrpo.checkpoint.store import CheckpointStore; print(CheckpointStore({str(tmp_path)!r}).staging(8).name, "
        "flush=True); input()"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        name = other.stdout.readline().strip()
        store = stored(tmp_path, 4)
        assert store.newest_whole().skipped == []
        assert hidden(tmp_path) == [name]
        other.communicate("\n")


def test_staging_of_a_dead_process_that_had_this_ones_id_is_removed(tmp_path: Path) -> None:
    CheckpointStore(tmp_path).staging(8)  # a container that starts again gives the same ids out
    publish(CheckpointStore(tmp_path), 4)
    assert hidden(tmp_path) == []


def test_staging_of_another_host_is_removed_once_it_is_old(tmp_path: Path) -> None:
    (tmp_path / ".step-00000008.elsewhere.7.ab.partial").mkdir()
    store = stored(tmp_path, 4)
    assert len(hidden(tmp_path)) == 1
    age = (tmp_path / hidden(tmp_path)[0]).stat().st_mtime - ABANDONED_SECONDS - 1
    os.utime(tmp_path / hidden(tmp_path)[0], (age, age))
    publish(store, 12)
    assert hidden(tmp_path) == []


# ---- going back ----


def test_rewound_steps_are_out_of_sight_at_once_and_redone(tmp_path: Path) -> None:
    store = stored(tmp_path, 4, 8, 12)
    assert store.rewind(4) == [8, 12]
    found, skipped = CheckpointStore(tmp_path).newest_whole()
    assert found is not None
    assert (found.step, skipped) == (4, [])
    assert len(hidden(tmp_path)) == 2
    publish(store, 8)
    assert (store.steps(), hidden(tmp_path)) == ([4, 8], [])
