"""The folder that a run's processes share is its user's alone, and what a killed run left is found by its lock."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import pytest

from mrpo.driver import private_folder
from mrpo.driver.private_folder import (
    MAX_SOCKET_PATH,
    RAY_SOCKET,
    PrivateFolder,
    left_behind,
    remove_left_behind,
    require_private,
    temporary_folder,
    untrusted,
)
from mrpo.errors import ConfigError

pytestmark = pytest.mark.unit

STRANGER = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="plays another user, which takes root")


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder like /tmp."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o1777)
    return folder


def killed_owner(parent: Path) -> Path:
    """The private folder of a process that was killed."""
    code = f"""if True:
        import time
        from pathlib import Path
        from mrpo.driver.private_folder import PrivateFolder
        print(PrivateFolder(Path({str(parent)!r})).path, flush=True)
        time.sleep(60)"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    path = Path(process.stdout.readline().strip())
    assert list(left_behind(parent)) == []
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    return path


def test_nobody_else_can_open_it_whatever_the_umask(shared: Path) -> None:
    before = os.umask(0)
    try:
        made = PrivateFolder(shared)
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in made.path.iterdir()}
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o700
    assert modes == {"owner.json": 0o600, "token": 0o600, "ray": 0o700, "tmp": 0o700}
    made.ray.chmod(0o777)  # as Ray does
    require_private(made.path)
    made.remove()
    assert list(shared.iterdir()) == []


def test_each_has_a_token_of_its_own(shared: Path) -> None:
    one, other = PrivateFolder(shared), PrivateFolder(shared)
    assert len(one.token.read_text()) == 64
    assert one.token.read_text() != other.token.read_text()
    for made in (one, other):
        made.remove()


@pytest.mark.parametrize(("mode", "private"), [(0o700, True), (0o750, False), (0o701, False), (0o1777, False)])
def test_a_folder_that_others_can_open_is_refused(tmp_path: Path, mode: int, private: bool) -> None:
    tmp_path.chmod(mode)
    if private:
        require_private(tmp_path)
    else:
        with pytest.raises(PermissionError, match="not a folder of this user's alone"):
            require_private(tmp_path)
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    with pytest.raises(PermissionError):
        require_private(link)


def test_a_temporary_folder_in_which_others_can_rename_is_refused(shared: Path) -> None:
    assert untrusted(shared) == ""
    shared.chmod(0o777)  # no sticky bit
    (shared / "inner").mkdir(mode=0o700)
    for folder in (shared, shared / "inner"):
        with pytest.raises(ConfigError, match=f"TMPDIR: given {folder}.*{shared} can be written by others"):
            PrivateFolder(folder)
    assert "No such file" in untrusted(shared / "nowhere")


@as_root
def test_a_temporary_folder_of_somebody_else_is_refused(shared: Path) -> None:
    os.chown(shared, STRANGER, STRANGER)
    assert untrusted(shared) == f"{shared} belongs to user {STRANGER}"


@as_root
def test_a_stranger_can_neither_read_nor_rename_what_is_in_it(shared: Path) -> None:
    for folder in (shared, *shared.parents):
        if folder.stat().st_uid == 0 and folder.name.startswith(("pytest", "popen", "test", "shared")):
            folder.chmod(0o1777 if folder == shared else 0o755)
    made = PrivateFolder(shared)
    made.ray.chmod(0o777)
    for attempt in (f"cat {made.token}", f"mv {made.ray} {made.ray}2", f"mv {made.path} {shared}/x", f"ls {made.ray}"):
        done = subprocess.run(
            ["setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups", "sh", "-c", attempt],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode != 0, attempt
        assert "ermi" in done.stderr, done.stderr  # permission denied, operation not permitted
    made.remove()


def test_what_a_killed_owner_left_is_removed_and_what_lives_is_not(shared: Path) -> None:
    living = PrivateFolder(shared)
    dead = killed_owner(shared)
    segment = SharedMemory(f"{dead.name}-0", create=True, size=16)
    other = SharedMemory(f"{living.path.name}-0", create=True, size=16)
    (shared / "mrpo-no-folder").touch()
    (shared / "mrpo-not-ours").mkdir(mode=0o700)  # without an owner: being made, or of something else
    again = shared / f"{dead.name[:-3]}___"  # made again by what was still ending
    (again / "ray" / "session_1").mkdir(parents=True)
    try:
        left = dict(left_behind(shared))
        assert left.keys() == {dead, again}
        assert '"pid"' in left[dead]
        assert set(remove_left_behind(shared)) == {dead, again}
        names = {path.name for path in shared.iterdir()}
        assert names == {living.path.name, "mrpo-no-folder", "mrpo-not-ours"}
        assert not Path("/dev/shm", f"{dead.name}-0").exists()
        living.remove()
        assert not Path("/dev/shm", f"{living.path.name}-0").exists()
    finally:
        for each in (segment, other):
            each.close()


@as_root
def test_what_is_somebody_elses_stays(shared: Path) -> None:
    dead = killed_owner(shared)
    os.chown(dead, STRANGER, STRANGER)
    assert list(left_behind(shared)) == []


def test_a_socket_fits_below_the_temporary_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    for folder, expected in (("/tmp", Path("/tmp")), (str(long), private_folder.FALLBACK)):
        monkeypatch.setattr("tempfile.tempdir", folder)
        assert temporary_folder() == expected
        assert len(str(temporary_folder() / "mrpo-12345678" / RAY_SOCKET)) <= MAX_SOCKET_PATH
