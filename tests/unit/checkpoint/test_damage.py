"""Whatever part of a checkpoint is damaged, the one before it is found, and it is said what was skipped and why."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mrpo.checkpoint import manifest
from mrpo.checkpoint.manifest import MANIFEST, CheckpointError
from mrpo.checkpoint.resume import choose
from mrpo.checkpoint.store import CheckpointStore, Skipped
from mrpo.config.checkpoint import ResumeConfig

from .checkpoints import NAMES, OF_ANY_FILE, OF_CONTENT, Damage, flip_a_bit, make_a_link_of, publish, remove, stored

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


@pytest.mark.parametrize(("number", "known"), [(errno.EACCES, True), (errno.EIO, False), (errno.ESTALE, False)])
def test_part_that_cannot_be_listed_is_not_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, known: bool
) -> None:
    """What may not be read is skipped by name; where only the disk or network fails, nothing is decided."""
    real = os.scandir

    def fails(path: str) -> object:
        if "step-00000008" in str(path) and str(path).endswith("actor"):
            raise OSError(number, os.strerror(number), path)
        return real(path)

    stored(tmp_path, 4, 8)
    monkeypatch.setattr(os, "scandir", fails)
    if not known:
        with pytest.raises(OSError, match="actor"):
            CheckpointStore(tmp_path).newest_whole()
        return
    found, skipped = CheckpointStore(tmp_path).newest_whole()
    assert found is not None
    assert found.step == 4
    assert skipped == [Skipped("step-00000008", "actor can't be read: Permission denied")]


CONTENTS = {
    "a list": b"[]",
    "a string": b'"x"',
    "null": b"null",
    "a number": b"1",
    "no version": b"{}",
    "another version": b'{"version": [2]}',
    "not JSON": b"{",
    "not UTF-8": b'{"\xff": 1}',
    "nothing": b"",
    "nested deep": b"[" * 100_000,
    "a long number": b"1" * 5000,
    "wrong types": b'{"version": 1, "step": "x", "files": []}',
}


@pytest.mark.parametrize("content", CONTENTS)
def test_a_manifest_of_any_content_under_a_right_seal_is_skipped(tmp_path: Path, content: str) -> None:
    stored(tmp_path, 4, 8)
    (tmp_path / "step-00000008" / MANIFEST).write_bytes(manifest._sealed(CONTENTS[content]))
    require_skipped(tmp_path, f"{MANIFEST} ")


def kind(value: Any) -> str:
    """As JSON has it: a whole number is a number, too."""
    return "number" if type(value) in (int, float) else type(value).__name__


OTHERS: list[Any] = [None, True, -1.5, "x", "1", [], [1], {}, {"a": 1}]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_manifest_with_a_key_removed_or_of_another_type_is_skipped(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Under a right seal, at any depth; an entry of an open mapping may be missing, but not be of another type."""
    root = tmp_path_factory.getbasetemp() / "resealed"
    if not root.exists():
        publish(stored(root, 4), 8, score=1.0)
    file = root / "step-00000008" / MANIFEST
    original = file.read_bytes()
    content = json.loads(original)["manifest"]
    place: Any = content
    keys: list[str] = []
    while isinstance(place, dict) and place and (not keys or data.draw(st.booleans())):
        if keys[:1] == ["extra"] and len(keys) == 2:
            break  # what a run adds is its own
        keys.append(data.draw(st.sampled_from(sorted(place))))
        parent, place = place, place[keys[-1]]
    if (keys[0] in ("packages", "metrics") and len(keys) == 2) or not data.draw(st.booleans()):
        parent[keys[-1]] = data.draw(st.sampled_from([other for other in OTHERS if kind(other) != kind(place)]))
    else:
        del parent[keys[-1]]
    try:
        file.write_bytes(manifest._sealed(json.dumps(content).encode()))
        found, skipped = choose(CheckpointStore(root), ResumeConfig())
        assert found is not None
        assert found.step == 4
        assert [name for name, _ in skipped] == ["step-00000008"]
        assert "manifest" in skipped[0].reason
        with pytest.raises(CheckpointError, match="step-00000008: "):
            choose(CheckpointStore(root), ResumeConfig(step=8))
    finally:
        file.write_bytes(original)
        assert choose(CheckpointStore(root), ResumeConfig()).skipped == []


def pipe(folder: Path) -> None:
    (folder / MANIFEST).unlink()
    os.mkfifo(folder / MANIFEST)


def endless(folder: Path) -> None:
    (folder / MANIFEST).unlink()
    (folder / MANIFEST).symlink_to("/dev/zero")


def sparse(folder: Path) -> None:
    os.truncate(folder / MANIFEST, 1 << 40)


def loop(folder: Path) -> None:
    (folder / MANIFEST).unlink()
    (folder / MANIFEST).symlink_to(folder / MANIFEST)


def folder_loop(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.symlink_to(folder)


def a_folder(folder: Path) -> None:
    (folder / MANIFEST).unlink()
    (folder / MANIFEST).mkdir()


def a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.touch()


@pytest.mark.parametrize("damage", [pipe, endless, sparse, loop, folder_loop, a_folder, a_file])
def test_a_manifest_of_any_kind_or_size_is_skipped(tmp_path: Path, damage: Damage) -> None:
    stored(tmp_path, 4, 8)
    damage(tmp_path / "step-00000008")
    require_skipped(tmp_path, f"{MANIFEST} ")


@pytest.mark.skipif(os.geteuid() != 0, reason="makes files of another user, which takes root")
@pytest.mark.parametrize("name", [".", "actor", MANIFEST, NAMES[0]])
def test_what_another_user_keeps_to_himself_is_skipped(name: str) -> None:
    """In a process without root's rights; below /tmp, as pytest's folders are root's alone."""
    with tempfile.TemporaryDirectory() as root:
        Path(root).chmod(0o755)
        stored(Path(root), 4, 8)
        path = Path(root) / "step-00000008" / name
        path.chmod(0o700 if path.is_dir() else 0o600)
        code = (
            "import os, sys; from mrpo.checkpoint.store import CheckpointStore; os.setuid(65534); "
            "found, skipped = CheckpointStore(sys.argv[1]).newest_whole(); print(found.step, *skipped[0])"
        )
        done = subprocess.run([sys.executable, "-c", code, root], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("4 step-00000008 "), done.stderr
    assert "Permission denied" in done.stdout


def require_skipped(root: Path, reason: str) -> None:
    found, skipped = CheckpointStore(root).newest_whole()
    assert found is not None
    assert found.step == 4
    assert [name for name, _ in skipped] == ["step-00000008"]
    assert reason in skipped[0].reason
