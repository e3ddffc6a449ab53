"""A stall is reported once, a long one ends the run, and any movement begins anew."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from mrpo.config.checkpoint import WatchdogConfig
from mrpo.step.watchdog import Watchdog
from mrpo.verl_seam.stacks import _listens

pytestmark = pytest.mark.unit


def test_a_stall_is_reported_once_and_given_up_at_the_limit() -> None:
    now, reported, given_up = [0.0], list[str](), list[str]()
    watchdog = Watchdog(
        WatchdogConfig(warn_after=10, timeout=30), lambda: "prompt a", reported.append, given_up.append, lambda: now[0]
    )
    for second in range(1, 30):
        now[0] = second
        watchdog.look()
    assert reported == ["nothing has moved for 10 s: prompt a"]
    assert not given_up
    now[0] = 30
    watchdog.look()
    assert given_up == ["nothing has moved for 30 s: prompt a"]


def test_not_knowing_what_for_does_not_end_the_watch() -> None:
    now, reported, given_up = [0.0], list[str](), list[str]()

    def unknown() -> str:
        raise KeyError("ranks")

    watchdog = Watchdog(
        WatchdogConfig(warn_after=10, timeout=30), unknown, reported.append, given_up.append, lambda: now[0]
    )
    for now[0] in (10, 30):
        watchdog.look()
    assert "nobody could say for what (KeyError: 'ranks')" in reported[0]
    assert given_up


def test_movement_begins_anew() -> None:
    now, reported, given_up = [0.0], list[str](), list[str]()
    watchdog = Watchdog(
        WatchdogConfig(warn_after=10, timeout=30), lambda: "prompt a", reported.append, given_up.append, lambda: now[0]
    )
    for second in range(1, 100):
        now[0] = second
        watchdog.look()
        if second % 15 == 0:
            watchdog.moved()
    assert len(reported) == 6
    assert not given_up


def test_only_a_process_that_handles_the_signal_is_asked_for_its_stacks() -> None:
    code = "import faulthandler, signal, time; {} print(1, flush=True); time.sleep(30)"
    for register, listens in (("faulthandler.register(signal.SIGUSR2, all_threads=True);", True), ("", False)):
        process = subprocess.Popen([sys.executable, "-c", code.format(register)], stdout=-1, stderr=-1, text=True)
        assert process.stdout is not None
        process.stdout.readline()
        assert _listens(process.pid) == listens
        if listens:
            process.send_signal(signal.SIGUSR2)
            assert process.stderr is not None
            assert "most recent call first" in process.stderr.readline()
        process.kill()
        process.communicate()
