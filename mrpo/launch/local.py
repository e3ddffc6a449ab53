"""A run on this machine, started again while it ends with "saved, run me again", and a few times after a crash."""

from __future__ import annotations

import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import IO

from mrpo.exit_code import ExitCode
from mrpo.launch.job import Job
from mrpo.launch.template import render
from mrpo.program import POLL_SECONDS

MAX_CRASHES = 3
"""Crashes in a row after which the run is given up; an attempt that saved starts the count anew."""
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)


def render_local(job: Job, workdir: Path, venv: Path) -> dict[str, str]:
    """The script of one attempt, by its file's name."""
    values = {
        "workdir": shlex.quote(str(workdir)),
        "venv": shlex.quote(f"{venv}/bin"),
        "command": shlex.join(job.command()),
    }
    return {f"{job.label}.sh": render("local.sh.j2", values)}


def keep_running(command: list[str]) -> int:
    """Run ``command`` until it is done, and return its exit code. Asked to end by a signal, it passes the signal on and
    doesn't start another attempt."""
    attempt = crashes = 0
    while True:
        attempt += 1
        print(f"== attempt {attempt}, {time.strftime('%Y-%m-%d %H:%M:%S')}", flush=True)
        code, asked_to_end = run_passing_signals_on(command)
        crashes = 0 if code == ExitCode.REQUEUE else crashes + 1
        if code in (ExitCode.DONE, ExitCode.BAD_INPUT) or asked_to_end or crashes >= MAX_CRASHES:
            print(f"== ended with exit code {code}", flush=True)
            return code
        why = "saved" if code == ExitCode.REQUEUE else f"crash {crashes} of {MAX_CRASHES}"
        print(f"== exit code {code}: {why}", flush=True)


def run_passing_signals_on(
    command: list[str], output: IO[bytes] | None = None, poll: Callable[[], None] | None = None
) -> tuple[int, bool]:
    """Run ``command`` to its end, passing on every signal that asks this process to end.

    Args:
        output: gets what it prints, errors too. Default: where this process prints.
        poll: called a few times a second.

    Returns:
        Its exit code, and whether it was asked to end.
    """
    # In a session of its own, so that Ctrl-C reaches it once, through here.
    process = subprocess.Popen(command, start_new_session=True, stdout=output, stderr=output)
    asked: list[int] = []

    def pass_on(number: int, _: FrameType | None) -> None:
        asked.append(number)
        process.send_signal(signal.SIGTERM if number == signal.SIGHUP else number)  # a closed terminal may save, too

    before = {number: signal.signal(number, pass_on) for number in SIGNALS}
    try:
        while poll is not None and process.poll() is None:
            try:
                process.wait(POLL_SECONDS)
            except subprocess.TimeoutExpired:
                poll()
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return (code if code >= 0 else 128 - code), bool(asked)
