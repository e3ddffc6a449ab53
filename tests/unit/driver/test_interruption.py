"""Real signals to real processes: the first asks, the second ends, the clock asks too."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mrpo.driver.interruption import SAME_REQUEST_SECONDS, SIGNALS, Interruption, seconds_to_slurm_end
from mrpo.errors import ConfigError
from mrpo.exit_code import ExitCode

pytestmark = pytest.mark.unit

DRIVER = """
import sys, time
from mrpo.driver.interruption import Interruption
from mrpo.exit_code import ExitCode
with Interruption({arguments}) as interruption:
    print("ready", flush=True)
    while interruption.request is None:
        time.sleep(0.01)
    print(interruption.request.cause, flush=True)
    time.sleep({saving})
    print("saved", interruption.seconds_left > 0, flush=True)
    sys.exit(ExitCode.REQUEUE)
"""


@contextmanager
def driver(arguments: str = "", saving: float = 0, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A process that waits for a request, then saves for so many seconds; it is ready for signals."""
    code = DRIVER.format(arguments=arguments, saving=saving)
    pipe, variables = subprocess.PIPE, {**os.environ, **environment}
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=variables) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", SIGNALS)
def test_first_signal_asks_to_save(number: signal.Signals) -> None:
    with driver() as process:
        process.send_signal(number)
        out, errors = process.communicate(timeout=20)
        assert (out, errors, process.returncode) == (f"{number.name}\nsaved True\n", "", ExitCode.REQUEUE)


@pytest.mark.parametrize(("second", "code"), [(signal.SIGINT, ExitCode.FAILED), (signal.SIGTERM, ExitCode.REQUEUE)])
def test_second_signal_ends_at_once(second: signal.Signals, code: int) -> None:
    with driver(saving=60) as process:
        assert process.stdout is not None
        process.send_signal(signal.SIGUSR1)
        assert process.stdout.readline() == "SIGUSR1\n"
        time.sleep(SAME_REQUEST_SECONDS + 0.2)
        start = time.monotonic()
        process.send_signal(second)
        out, errors = process.communicate(timeout=20)
        assert time.monotonic() - start < 10
        assert (out, process.returncode) == ("", code)
        assert f"{second.name} after SIGUSR1: ending at once" in errors


def test_a_warning_after_any_signal_breaks_nothing_off() -> None:
    with driver(saving=SAME_REQUEST_SECONDS + 0.5) as process:
        assert process.stdout is not None
        process.send_signal(signal.SIGTERM)
        process.stdout.readline()
        time.sleep(SAME_REQUEST_SECONDS + 0.2)
        process.send_signal(signal.SIGUSR1)
        assert process.wait(20) == ExitCode.REQUEUE


def test_same_request_delivered_twice_is_one() -> None:
    with driver(saving=0.2) as process:
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=20)
        assert out.endswith("saved True\n")
        assert process.returncode == ExitCode.REQUEUE


def test_time_limit_asks_to_save() -> None:
    with driver("wall_clock=0.3") as process:
        out, _ = process.communicate(timeout=20)
        assert (out, process.returncode) == ("the time limit of 0.3 s\nsaved True\n", ExitCode.REQUEUE)


def test_signal_after_the_time_limit_does_not_break_off_saving() -> None:
    with driver("wall_clock=0.1", saving=SAME_REQUEST_SECONDS + 0.5) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(SAME_REQUEST_SECONDS + 0.2)
        process.send_signal(signal.SIGUSR1)
        assert process.wait(20) == ExitCode.REQUEUE


def test_end_of_the_slurm_job_asks_to_save(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + 100))
    interruption = Interruption(slurm_margin=98.8)
    assert interruption.request is None
    time.sleep(1.3)
    assert interruption.request is not None
    assert interruption.request.cause == "the end of the SLURM job's time"
    assert 118 < interruption.seconds_left < 120


def test_grace_period_runs_out() -> None:
    with driver("grace=0.1", saving=0.3) as process:
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=20)
        assert out.endswith("saved False\n")


def test_job_that_ends_within_the_margin_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + 100))
    with pytest.raises(ConfigError, match=r"interrupt\.slurm_margin: given 300, allowed: less than the (100|99) s"):
        Interruption()


def test_slurm_end_is_told_in_seconds_or_refused() -> None:
    assert seconds_to_slurm_end({}) is None
    left = seconds_to_slurm_end({"SLURM_JOB_END_TIME": str(int(time.time()) + 50)})
    assert left is not None
    assert 48 < left <= 50
    with pytest.raises(ConfigError, match="SLURM_JOB_END_TIME: given 'soon'"):
        seconds_to_slurm_end({"SLURM_JOB_END_TIME": "soon"})


def test_handlers_are_as_before_afterwards() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with Interruption() as interruption:
        assert (interruption.request, interruption.seconds_left) == (None, float("inf"))
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert [signal.getsignal(number) for number in SIGNALS] == before
