"""The same promises where there is no rename: checkpoints under an fsspec URL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from mrpo.checkpoint.manifest import MANIFEST, CheckpointError
from mrpo.checkpoint.store import CheckpointStore
from mrpo.config.checkpoint import CheckpointConfig
from mrpo.errors import ConfigError

from .checkpoints import NAMES, publish, require_whole
from .objects import URL, emptied, path, store_at

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def memory() -> MemoryFileSystem:
    return emptied()


def test_url_needs_a_local_folder_to_write_in() -> None:
    with pytest.raises(ConfigError, match=f"checkpoint.folder: given {URL}, allowed with a local folder"):
        CheckpointStore(URL)


def test_url_of_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"checkpoint\.folder: given nowhere://run: Protocol not known"):
        CheckpointStore("nowhere://run", tmp_path)


def test_url_of_local_files_is_a_folder(tmp_path: Path) -> None:
    publish(CheckpointStore(f"file://{tmp_path}"), 4)
    require_whole(CheckpointStore(tmp_path).load(4))


def test_checkpoint_is_downloaded_on_a_machine_that_never_saw_it(tmp_path: Path) -> None:
    store_at(tmp_path / "one", 4, 8)
    store = CheckpointStore(URL, tmp_path / "two")
    for step in (8, 4):
        require_whole(store.load(step))
    assert [entry.name for entry in (tmp_path / "two/cache").iterdir()] == ["step-00000004"]


def test_newest_one_is_not_downloaded_where_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store_at(tmp_path, 4, 8)
    monkeypatch.setattr(MemoryFileSystem, "get_file", None)
    found, _ = CheckpointStore(URL, tmp_path).newest_whole()
    assert found is not None
    assert found.step == 8
    require_whole(found)


def test_damaged_local_copy_is_replaced(tmp_path: Path) -> None:
    store_at(tmp_path, 4)
    (tmp_path / "cache/step-00000004" / NAMES[0]).write_bytes(b"")
    require_whole(CheckpointStore(URL, tmp_path).load(4))


def test_local_copy_of_another_course_is_replaced(tmp_path: Path) -> None:
    store_at(tmp_path / "one", 4, 8)
    other = CheckpointStore(URL, tmp_path / "two")
    other.rewind(4)
    staging = other.staging(8)
    (staging / "done").write_bytes(b"differently")
    other.publish(staging, 8)
    assert (CheckpointStore(URL, tmp_path / "one").load(8).folder / "done").read_bytes() == b"differently"


@pytest.mark.parametrize("name", [*NAMES, MANIFEST])
@pytest.mark.parametrize("damage", ["removed", "flipped", "truncated"])
def test_damaged_object_is_noticed_and_the_checkpoint_before_is_found(
    tmp_path: Path, memory: MemoryFileSystem, name: str, damage: str
) -> None:
    store_at(tmp_path / "one", 4, 8)
    content = memory.cat_file(path(8, name))
    memory.rm_file(path(8, name))
    if damage == "flipped":
        memory.pipe_file(path(8, name), bytes([content[0] ^ 1]) + content[1:] if content else b"\0")
    elif damage == "truncated":
        memory.pipe_file(path(8, name), content[:-1] if content else b"\0")
    found, skipped = CheckpointStore(URL, tmp_path / "two").newest_whole()
    assert found is not None
    assert found.step == 4
    require_whole(found)
    ((which, reason),) = skipped
    assert which == "step-00000008"
    assert name in reason


def test_only_damaged_checkpoints_are_an_error(tmp_path: Path, memory: MemoryFileSystem) -> None:
    store_at(tmp_path / "one", 4)
    memory.rm_file(path(4, NAMES[0]))
    with pytest.raises(CheckpointError, match=f"no checkpoint is whole:\n  step-00000004: {NAMES[0]} is missing"):
        CheckpointStore(URL, tmp_path / "two").newest_whole()


def test_listing_that_fails_is_not_an_empty_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_access(self: MemoryFileSystem, path: str, **options: Any) -> list:
        raise PermissionError(path)

    store = store_at(tmp_path, 4)
    monkeypatch.setattr(MemoryFileSystem, "ls", no_access)
    with pytest.raises(PermissionError):
        store.newest_whole()


def test_retention_and_going_back_remove_objects(tmp_path: Path, memory: MemoryFileSystem) -> None:
    store = store_at(tmp_path, 4, 8, 12, 16)
    assert store.retain(CheckpointConfig(keep_last=3)) == [4]
    assert store.rewind(8) == [12, 16]
    publish(store, 12)
    assert store.steps() == [8, 12]
    assert {name.split("/")[3] for name in memory.store} == {"step-00000008", "step-00000012"}
    require_whole(store.load(12))
