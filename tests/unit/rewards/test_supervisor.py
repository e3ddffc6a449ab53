"""Whatever a reward's process started or wrote, and however it ends, nothing is left of it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mrpo.config.run import RewardConfig
from mrpo.driver.private_folder import left_behind, remove_left_behind
from mrpo.errors import ConfigError
from mrpo.rewards.sandbox import memory
from mrpo.rewards.scorer import Scorer
from tests.unit.rewards.library.rows import require_sandbox

pytestmark = pytest.mark.unit

REWARDS = """
import os, signal, subprocess, sys, tempfile, time
MARK = "sleep 62.{n}"
def daemons():
    for _ in range(3):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.execvp("sleep", MARK.split())
            os._exit(0)
    subprocess.Popen(MARK.split(), start_new_session=True, env={{}})
    open(tempfile.mkdtemp() + "/left", "w").write("x")
def good(prompt, response, truth, extra):
    daemons()
    return 1.0
def exits(*_): daemons(); os._exit(3)
def hangs(*_): daemons(); time.sleep(60)
def kills_its_group(*_): daemons(); os.killpg(0, signal.SIGKILL)
def stops_its_supervisor(*_): daemons(); os.kill(os.getppid(), signal.SIGSTOP); time.sleep(60)
"""
ENDS = {
    "good": None,
    "exits": "crash: the process that scored it exited with code 3",
    "hangs": "timeout: no score within 0.5 s",
    "kills_its_group": "crash: the process that scored it was killed by signal 9 (out of memory?)",
    "stops_its_supervisor": "timeout: no score within 0.5 s",
}


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "rewards.py").write_text(REWARDS.format(n=os.getpid()))
    return tmp_path / "tmp"


def left_running() -> bool:
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return f"sleep 62.{os.getpid()}" in listed


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_daemons_and_files_go_with_the_process_that_scored(temporary: Path) -> None:
    rewards = {name: RewardConfig(function=f"rewards.py:{name}", timeout=0.5) for name in ENDS}

    async def run() -> None:
        async with Scorer(rewards, temporary.parent) as scorer:
            outcomes = await scorer.score([], "x", None, {})
            assert {name: outcome.failure for name, outcome in outcomes.items()} == ENDS

    asyncio.run(run())
    until(lambda: not left_running() and os.listdir(temporary) == [])


SCORE = """
import asyncio, sys, tempfile
from pathlib import Path
from mrpo.config.run import RewardConfig
from mrpo.rewards.scorer import Scorer
tempfile.tempdir = sys.argv[1]
async def run():
    rewards = {"a": RewardConfig(function="rewards.py:hangs"), "b": RewardConfig(function="code")}
    async with Scorer(rewards, Path(sys.argv[1]).parent) as scorer:
        program = "```python\\nwhile True: pass\\n```"
        await scorer.score([], program, [{"input": "", "output": "3"}], {})
asyncio.run(run())
"""


def groups() -> set[str]:
    folder = memory.parent_group()
    return set() if folder is None else {entry.name for entry in folder.glob("mrpo-sandbox-*")}


def test_nothing_is_left_where_the_scorer_itself_is_killed(temporary: Path) -> None:
    require_sandbox()
    before = groups()
    with subprocess.Popen([sys.executable, "-c", SCORE, str(temporary)]) as scorer:
        until(lambda: left_running() and any(temporary.glob("*/mrpo-sandbox-*/root")))
        scorer.send_signal(signal.SIGKILL)
    until(lambda: not left_running() and os.listdir(temporary) == [] and groups() <= before)


def test_an_interpreter_that_isnt_there_leaves_no_folder(temporary: Path) -> None:
    async def run() -> None:
        async with Scorer({"a": RewardConfig(function="exact_match")}, temporary.parent, python="/no/such/python"):
            pass

    with pytest.raises(ConfigError, match="no process can be started"):
        asyncio.run(run())
    assert os.listdir(temporary) == []


def test_a_stop_at_any_moment_is_taken_without_a_word(tmp_path: Path) -> None:
    """As it starts, while it waits, and just as the process that scores has ended by itself."""
    for attempt in range(24):
        folder = tmp_path / f"tmp{attempt}"
        folder.mkdir()
        ours, theirs = socket.socketpair()
        arguments = [str(theirs.fileno()), str(os.getpid()), str(folder)]
        command = [sys.executable, "-P", "-m", "mrpo.rewards.supervisor", *arguments]
        process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stderr=subprocess.PIPE)
        theirs.close()
        time.sleep(0.02 * (attempt % 12))
        ours.close()  # the process that scores ends
        time.sleep(0.0005 * attempt)
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=30)[1] == b""


def test_what_stays_if_the_supervisor_is_killed_too_is_known_to_be_dead(temporary: Path) -> None:
    """While one of its processes lives it is nobody's to remove, in the eyes of others that see no process ids, too."""
    command = [sys.executable, "-c", SCORE, str(temporary)]
    with subprocess.Popen(command) as pool:
        until(lambda: len(os.listdir(temporary)) == 2 and len(list(temporary.glob("*/mrpo-sandbox-*"))) == 1)
        assert list(left_behind(temporary)) == []
        supervisors = children(pool.pid)
        for process in supervisors:
            os.kill(process, signal.SIGSTOP)
        pool.kill()
    assert list(left_behind(temporary)) == []
    for process in supervisors:
        os.kill(process, signal.SIGKILL)
    until(lambda: len(list(left_behind(temporary))) == 2)
    assert {path.name[:12] for path, _ in left_behind(temporary)} == {"mrpo-reward-"}
    remove_left_behind(temporary)
    assert os.listdir(temporary) == []


def children(pid: int) -> list[int]:
    listed = subprocess.run(["pgrep", "-P", str(pid), "-f", "supervisor"], capture_output=True, text=True, check=False)
    return [int(line) for line in listed.stdout.split()]


def test_so_is_a_sandboxs_folder(temporary: Path) -> None:
    code = (
        "import tempfile, sys, time; tempfile.tempdir = sys.argv[1]; from mrpo.rewards.library.code import code; "
        "code()([], '```python\\nwhile True: pass\\n```', [{'input': '', 'output': '3'}], {})"
    )
    require_sandbox()
    with subprocess.Popen([sys.executable, "-c", code, str(temporary)]) as process:
        until(lambda: bool(list(temporary.glob("mrpo-sandbox-*/owner.json"))))
        assert list(left_behind(temporary)) == []
        process.kill()
    until(lambda: len(list(left_behind(temporary))) == 1)
    remove_left_behind(temporary)
    assert os.listdir(temporary) == []
