"""What is visible inside, whose number it runs under, and that folders may have any name."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from mrpo.rewards import sandbox
from mrpo.rewards.sandbox import SandboxError, commands
from tests.unit.rewards.library.rows import require_sandbox

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[4]
LOOK = """
import sys
from pathlib import Path
from mrpo.rewards import sandbox
code = "import os, sys; print([os.path.exists(p) for p in %r], sys.prefix, __import__('json').dumps(1))"
project = Path(sys.prefix)
result = sandbox.run(code % [str(project / n) for n in (".env", "data", "lib", "pyvenv.cfg")], seconds=20)
print(result.stdout + result.stderr)
"""


def test_of_a_project_that_is_a_virtual_environment_only_python_is_visible(tmp_path: Path) -> None:
    require_sandbox()
    project = tmp_path / "a b" / "it's; $(touch x)"
    venv.create(project, symlinks=True)
    (project / ".env").write_text("TOKEN=s3cret")
    (project / "data").mkdir()
    before = set(os.listdir("/"))
    found = subprocess.run(
        [project / "bin" / "python", "-c", LOOK],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path / "a b")},
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert found.stdout.strip() == f"[False, False, True, True] {project} 1", found
    assert set(os.listdir("/")) == before
    assert os.listdir(tmp_path) == ["a b"]


def test_a_python_whose_folder_is_a_home_shows_nothing_else_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("bin", "lib", "share", ".ssh", "work"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path))
    assert [path for path in commands.visible() if Path(path).is_relative_to(tmp_path)] == [
        str(tmp_path / name) for name in ("bin", "lib", "share")
    ]


def test_its_user_has_no_process_and_is_a_number_that_nobody_is_given() -> None:
    users = {commands.free_user() for _ in range(20)}
    assert len(users) > 1
    assert users.isdisjoint(commands._owners())
    if Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"]:
        assert all(user in commands.USERS for user in users)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_a_user_that_others_have_used_up_is_changed_and_is_no_fault_of_the_program(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    require_sandbox()
    taken, free = commands.free_user(), commands.free_user()
    others = [subprocess.Popen(["setpriv", "--reuid", str(taken), "--clear-groups", "sleep", "60"]) for _ in range(3)]
    try:
        while list(commands._owners()).count(taken) < len(others):
            pass
        drawn = iter([taken, free])
        monkeypatch.setattr(commands, "free_user", lambda: next(drawn))
        assert sandbox.run("print(1)", seconds=20, processes=3).stdout == "1\n"
        monkeypatch.setattr(commands, "free_user", lambda: taken)
        with pytest.raises(SandboxError, match="its user may have 3 processes and can't start one"):
            sandbox.run("print(1)", seconds=20, processes=3)
    finally:
        for other in others:
            other.kill()
            other.wait()


def test_bubblewraps_arguments_take_everything_away_and_show_what_is_needed_read_only(tmp_path: Path) -> None:
    """Read off the arguments, so that it holds where bubblewrap isn't installed, too."""
    arguments = commands.by_bwrap(tmp_path / "a b")
    assert arguments[0] == "bwrap"
    assert arguments[-1] == "--"
    assert {"--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session"} <= {*arguments}
    assert arguments[(drop := arguments.index("--cap-drop")) : drop + 2] == ["--cap-drop", "ALL"]
    assert arguments[(size := arguments.index("--size")) : size + 4] == ["--size", str(commands.TMP), "--tmpfs", "/tmp"]
    bound = [arguments[i + 1 : i + 3] for i, word in enumerate(arguments) if word == "--ro-bind"]
    assert bound[-1] == [str(tmp_path / "a b" / "code"), "/code"]
    links = [arguments[i + 1 : i + 3] for i, word in enumerate(arguments) if word == "--symlink"]
    assert [inside for _, inside in (*links, *bound[:-1])] == sorted(
        commands.visible(), key=os.path.islink, reverse=True
    )
    assert all(outside == inside for outside, inside in bound[:-1])
    devices = [arguments[i + 1 : i + 3] for i, word in enumerate(arguments) if word == "--dev-bind"]
    assert devices == [[path, path] for path in commands.DEVICES]
    assert not {"--bind", "--proc", "--dev", "--share-net"} & {*arguments}
    assert arguments[-3:-1] == ["--remount-ro", "/"]
    assert arguments.index("--tmpfs") < min(arguments.index("--ro-bind"), arguments.index("--remount-ro"))
