"""Code in the sandbox tries to get out, to see what isn't its own, and to take more than its share."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mrpo.errors import ConfigError
from mrpo.rewards import sandbox
from mrpo.rewards.sandbox import OUTPUT, Result, SandboxError, memory


def why_not() -> str:
    try:
        sandbox.find_sandbox()
    except SandboxError as error:
        return str(error)
    return ""


pytestmark = pytest.mark.unit
needs_sandbox = pytest.mark.skipif(bool(why_not()), reason=why_not())


def run(code: str, stdin: str = "", **limits: Any) -> Result:
    return sandbox.run(code, stdin, **{"seconds": 20.0, **limits})


@needs_sandbox
def test_a_program_reads_its_input_and_is_judged_by_its_outputs_and_exit_code() -> None:
    result = run("import sys\nprint(int(input()) * 2)\nprint('é', file=sys.stderr)\nsys.exit(3)", "21\n")
    assert result == Result("42\n", "é\n", 3, False)
    assert run("echo hi; exit 4", language="sh") == Result("hi\n", "", 4, False)


@needs_sandbox
def test_installed_packages_can_be_imported() -> None:
    assert run("import numpy; print(numpy.arange(3).sum())").stdout == "3\n"


@needs_sandbox
@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("import socket; socket.create_connection(('1.1.1.1', 53), 5)", "Network is unreachable"),
        ("import socket; socket.create_connection(('127.0.0.1', 22), 5)", "Error"),
        ("open('/x', 'w')", "Read-only file system"),
        ("open('/usr/x', 'w')", "Read-only file system"),
        ("open('/code/main', 'w')", "Error"),
        # the latter of a checkout below /tmp, where the folder is made for what is mounted in it
        ("import os, sys; open(os.path.join(sys.prefix, 'x'), 'w')", "Read-only file system|Permission denied"),
        ("open('/etc/passwd')", "No such file"),
        ("open('/proc/1/environ')", "No such file"),
        ("open('/dev/mem')", "No such file"),
        ("import ctypes; assert not ctypes.CDLL(None, use_errno=True).unshare(0x10000000), 'denied'", "denied"),
        ("import os; os.setuid(12345)", "Error"),
    ],
)
def test_the_way_out_is_closed(code: str, error: str) -> None:
    result = run(code)
    assert result.exit_code == 1
    assert re.search(error, result.stderr)


@needs_sandbox
def test_the_callers_files_and_environment_cant_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_text("s3cret")
    monkeypatch.setenv("MRPO_SECRET", "s3cret")
    paths = [str(tmp_path / "secret"), str(Path.home() / ".bashrc"), str(Path(__file__)), "/etc/shadow"]
    code = f"import os; print([os.path.exists(p) for p in {paths}], 's3cret' in str(os.environ))"
    assert run(code).stdout == f"{[False] * 4} False\n"


@needs_sandbox
def test_the_parent_cant_be_killed() -> None:
    for victim in ("os.getppid()", "1", "-1"):
        result = run(f"import os\ntry: os.kill({victim}, 9)\nexcept OSError: pass\nprint('on')")
        assert result.stdout in ("on\n", "")
    assert run("print(1)").stdout == "1\n"


@needs_sandbox
def test_an_endless_loop_ends_in_time() -> None:
    for code in ("while True: pass", "import time; time.sleep(60)"):
        start = time.monotonic()
        result = run(code, seconds=0.5)
        assert (result.timed_out, result.exit_code) == (True, 137)
        assert time.monotonic() - start < 10


@needs_sandbox
def test_a_fork_bomb_stays_small() -> None:
    code = "import os, time\nn = 0\ntry:\n    while os.fork(): n += 1\n    time.sleep(60)\nexcept OSError: print(n)"
    result = run(code, processes=10)
    assert 0 < int(result.stdout) < 10
    run("import os\nwhile True:\n    try: os.fork()\n    except OSError: pass", seconds=0.5)
    assert run("print(1)").stdout == "1\n"


@needs_sandbox
def test_memory_and_output_are_bounded() -> None:
    assert "MemoryError" in run("x = bytearray(2**30)", memory_gib=0.25).stderr
    assert len(run("while True: print('x' * 1000)").stdout) == OUTPUT
    fills = "n = 0\nwhile True:\n    n += 1\n    open(f'/tmp/{n}', 'wb').write(bytes(2**20))"
    assert "No space left" in run(fills).stderr


@needs_sandbox
def test_what_it_leaves_running_ends_with_it() -> None:
    code = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(60.125)\nprint('done')"
    assert run(code).stdout == "done\n"
    assert "60.125" not in commands()


@needs_sandbox
def test_it_ends_with_its_caller(tmp_path: Path) -> None:
    program = "from mrpo.rewards import sandbox; sandbox.run('sleep 61.125', seconds=60, language='sh')"
    with subprocess.Popen([sys.executable, "-c", program], env={**os.environ, "TMPDIR": str(tmp_path)}) as caller:
        wait_for(lambda: "sleep 61.125" in commands())
        caller.kill()
    wait_for(lambda: "sleep 61.125" not in commands())
    for link in tmp_path.glob("*/group"):
        memory.remove(link.readlink())


@needs_sandbox
def test_what_a_signal_ended_says_so() -> None:
    assert run("import os; os.abort()").exit_code == 134


def test_without_a_sandbox_nothing_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken_sandbox(*_: Any) -> list[str]:
        return ["false"]

    monkeypatch.setattr(sandbox.commands, "by_unshare", broken_sandbox)
    monkeypatch.setattr(sandbox.commands, "by_bwrap", broken_sandbox)
    sandbox.find_sandbox.cache_clear()
    try:
        with pytest.raises(
            SandboxError,
            match=r"no sandbox for untrusted code works here .*(Install bubblewrap|give root CAP_SYS_ADMIN)",
        ):
            run(f"open({str(tmp_path / 'ran')!r}, 'w')")
    finally:
        sandbox.find_sandbox.cache_clear()
    assert os.listdir(tmp_path) == []


def test_a_language_it_doesnt_know_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"unknown name 'pyhton'\. Did you mean 'python'"):
        run("", language="pyhton")


def commands() -> str:
    return subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
