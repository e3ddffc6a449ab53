"""Whatever part of a checkpoint is damaged, the one before it is found, and it is said what was skipped and why."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mrpo.checkpoint.manifest import MANIFEST, CheckpointError
from mrpo.checkpoint.store import CheckpointStore, Skipped

from .checkpoints import NAMES, OF_ANY_FILE, OF_CONTENT, Damage, flip_a_bit, make_a_link_of, remove, stored

pytestmark = pytest.mark.unit

CASES = [(name, damage) for name in (*NAMES, MANIFEST) for damage in OF_ANY_FILE]
CASES += [(name, damage) for name in (*NAMES[:3], MANIFEST) for damage in OF_CONTENT]
CASES += [(NAMES[0], make_a_link_of)]


@pytest.mark.parametrize(("name", "damage"), CASES)
def test_damaged_file_is_noticed_and_the_checkpoint_before_is_found(tmp_path: Path, name: str, damage: Damage) -> None:
    stored(tmp_path / "store", 4, 8)
    damage(tmp_path / "store/step-00000008" / name)
    found, skipped = CheckpointStore(tmp_path / "store").newest_whole()
    assert found is not None
    assert found.step == 4
    ((which, reason),) = skipped
    assert which == "step-00000008"
    assert name in reason
    with pytest.raises(CheckpointError, match=f"step-00000008: .*{name}"):
        CheckpointStore(tmp_path / "store").load(8)


def test_file_that_does_not_belong_there_is_noticed(tmp_path: Path) -> None:
    stored(tmp_path, 4, 8)
    (tmp_path / "step-00000008/actor/rank_2.bin").write_bytes(b"")
    assert CheckpointStore(tmp_path).newest_whole().skipped == [
        Skipped("step-00000008", "actor/rank_2.bin is not in the manifest")
    ]


def test_all_damaged_files_are_named(tmp_path: Path) -> None:
    stored(tmp_path, 8)
    remove(tmp_path / "step-00000008" / NAMES[0])
    flip_a_bit(tmp_path / "step-00000008" / NAMES[1])
    with pytest.raises(CheckpointError, match=f"{NAMES[0]} is missing; {NAMES[1]} is damaged"):
        CheckpointStore(tmp_path).load(8)


def test_checkpoint_under_another_steps_name_is_skipped(tmp_path: Path) -> None:
    stored(tmp_path, 4, 8)
    (tmp_path / "step-00000008").rename(tmp_path / "step-00000016")
    found, skipped = CheckpointStore(tmp_path).newest_whole()
    assert found is not None
    assert found.step == 4
    assert skipped == [Skipped("step-00000016", "manifest.json is that of step 8")]


def test_no_checkpoint_at_all_is_no_error(tmp_path: Path) -> None:
    assert CheckpointStore(tmp_path / "not made yet").newest_whole() == (None, [])


def test_only_damaged_checkpoints_are_an_error_that_names_each(tmp_path: Path) -> None:
    stored(tmp_path, 4, 8, 12)
    for step, damage in ((4, remove), (8, flip_a_bit), (12, flip_a_bit)):
        damage(tmp_path / f"step-{step:08d}" / NAMES[0])
    with pytest.raises(CheckpointError) as raised:
        CheckpointStore(tmp_path).newest_whole()
    assert str(raised.value).splitlines() == [
        f"{tmp_path}: no checkpoint is whole:",
        f"  step-00000012: {NAMES[0]} is damaged: its checksum is not that of what was written",
        f"  step-00000008: {NAMES[0]} is damaged: its checksum is not that of what was written",
        f"  step-00000004: {NAMES[0]} is missing",
    ]


def test_folder_that_cannot_be_listed_is_not_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file")
    with pytest.raises(NotADirectoryError):
        CheckpointStore(tmp_path / "store").newest_whole()


def test_part_that_cannot_be_listed_is_not_an_empty_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.scandir

    def no_access(path: str) -> object:
        if str(path).endswith("actor"):
            raise PermissionError(path)
        return real(path)

    stored(tmp_path, 4)
    monkeypatch.setattr(os, "scandir", no_access)
    with pytest.raises(PermissionError):
        CheckpointStore(tmp_path).newest_whole()
