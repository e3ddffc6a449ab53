"""A run on this machine, started again while it ends with "saved, run me again", and a few times after a crash."""

from __future__ import annotations

import shlex
import signal
import subprocess
import time
from pathlib import Path
from types import FrameType

from mrpo.exit_code import ExitCode
from mrpo.launch.job import Job
from mrpo.launch.template import render

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
        code, asked_to_end = _attempt(command)
        crashes = 0 if code == ExitCode.REQUEUE else crashes + 1
        if code in (ExitCode.DONE, ExitCode.BAD_INPUT) or asked_to_end or crashes >= MAX_CRASHES:
            print(f"== ended with exit code {code}", flush=True)
            return code
        why = "saved" if code == ExitCode.REQUEUE else f"crash {crashes} of {MAX_CRASHES}"
        print(f"== exit code {code}: {why}", flush=True)


def _attempt(command: list[str]) -> tuple[int, bool]:
    process = subprocess.Popen(command, start_new_session=True)  # so that Ctrl-C reaches it once, through here
    asked: list[int] = []

    def pass_on(number: int, _: FrameType | None) -> None:
        asked.append(number)
        process.send_signal(signal.SIGTERM if number == signal.SIGHUP else number)  # a closed terminal may save, too

    before = {number: signal.signal(number, pass_on) for number in SIGNALS}
    try:
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return (code if code >= 0 else 128 - code), bool(asked)
