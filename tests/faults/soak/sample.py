"""What a run takes of its machine at an instant: every process by its role, shared memory, files of the run, logs."""

from __future__ import annotations

import os
import re
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypedDict

import psutil

from mrpo.record import jsonl
from mrpo.record.phase import Phase
from mrpo.record.run_folder import RunFolder
from tests.e2e.watched import label

MIB = 2**20
_PID = re.compile(r"[-_](\d+)\.(?:out|err|log)$")
"""In the name of a log of Ray's: whose it is."""


class Sample(TypedDict):
    """``figures`` are named ``role/figure``; a role's are the sum of its processes."""

    time: float
    attempt: int
    """The number of the attempt that ran then: one's processes."""
    step: int
    """The last step whose metrics are written."""
    figures: dict[str, float]
    pids: list[int]


def role_of(process: psutil.Process) -> str:
    """What a process does in a run. Those that the fork server forks for an engine keep its command line."""
    role = label(process.cmdline())
    if role == "fork_server" and (parent := process.parent()) is not None and label(parent.cmdline()) == role:
        return "engine core"
    return role


def processes(tree: list[psutil.Process]) -> tuple[dict[str, float], dict[int, str]]:
    """PSS (a share of each page, by how many processes share it), descriptors, threads, by role; and who was there."""
    sums: Counter[str] = Counter()
    roles = {}
    for process in tree:
        try:
            role = role_of(process)
            taken = {
                "PSS MiB": process.memory_full_info().pss / MIB,
                "descriptors": process.num_fds(),
                "threads": process.num_threads(),
                "processes": 1,
            }
        except psutil.Error:
            continue  # it has just ended
        roles[process.pid] = role
        for figure, value in taken.items():
            sums[f"{role}/{figure}"] += value
            sums[f"all processes/{figure}"] += value
    return dict(sums), roles


def files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Every file below ``folder``, relative to it."""
    for path, _, names in os.walk(folder):
        for name in names:
            file = Path(path, name)
            try:
                yield file.relative_to(folder), file.lstat()
            except OSError:
                continue  # it has just been removed


def disk(run: RunFolder, temporary: Path, roles: dict[int, str]) -> dict[str, float]:
    """Files and MiB of the run folder by part, of the temporary folder, of logs by whose they are, of shared memory."""
    sums: defaultdict[str, float] = defaultdict(float)

    def count(role: str, size: float) -> None:
        sums[f"{role}/files"] += 1
        sums[f"{role}/MiB"] += size / MIB

    for file, status in files(run.path):
        count(f"run folder: {file.parts[0]}", status.st_size)
    for file, status in files(temporary):
        if "logs" in file.parts:
            sums[f"{log_of(file, roles)}/MiB"] += status.st_size / MIB
        count("logs" if "logs" in file.parts else "temporary folder", status.st_size)
    for private in temporary.glob("mrpo-*"):
        for segment in Path("/dev/shm").glob(f"{private.name}-*"):
            with suppress(OSError):
                count("/dev/shm", segment.lstat().st_blocks * 512)
    with suppress(OSError):
        count("what the command prints", run.path.with_suffix(".out").stat().st_size)
    return dict(sums)


def log_of(file: Path, roles: dict[int, str]) -> str:
    """What a file of Ray's logs is called: by the role that writes it, and whether the role or Ray's core does.

    >>> log_of(Path("worker-2e49-01000000-77.err"), {77: "Controller"}), log_of(Path("raylet.out"), {})
    ('log: Controller .err', 'log: raylet.out')
    >>> log_of(Path("python-core-worker-2e49_77.log"), {77: "Controller"})
    'log: Controller .log'
    """
    if pid := _PID.search(file.name):
        return f"log: {roles.get(int(pid[1]), 'ended process')} {file.suffix}"
    return f"log: {file.name}"


class Sampler(threading.Thread):
    """Appends a ``Sample`` of the current attempt to ``file`` every ``seconds``, until ``stop``."""

    def __init__(self, run: RunFolder, temporary: Path, file: Path, seconds: float):
        super().__init__(daemon=True)
        self.run_folder, self.temporary, self.file, self.seconds = run, temporary, file, seconds
        self.current: psutil.Process | None = None
        self.seen: set[psutil.Process] = set()
        """Every process of every command so far."""
        self.failed: Exception | None = None
        self._metrics, self._events, self._over = run.tail_metrics(), run.tail_events(), threading.Event()
        self._step = self._attempt = 0

    def follow(self, pid: int) -> None:
        self.current = psutil.Process(pid)

    def run(self) -> None:
        try:
            while not self._over.wait(self.seconds):
                if sample := self.take():
                    jsonl.append(self.file, sample)
        except Exception as error:
            self.failed = error

    def take(self) -> Sample | None:
        """None while no command runs."""
        command = self.current
        try:
            tree = [command, *command.children(recursive=True)] if command is not None else []
        except psutil.Error:
            return None
        if not tree:
            return None
        self.seen |= {*tree}
        for record in self._metrics.poll():
            self._step = record["step"]
        self._attempt += sum(event["phase"] == Phase.ATTEMPT for event in self._events.poll())
        by_role, roles = processes(tree)
        figures = by_role | disk(self.run_folder, self.temporary, roles)
        return {
            "time": time.time(),
            "attempt": self._attempt,
            "step": self._step,
            "figures": figures,
            "pids": sorted(roles),
        }

    def stop(self) -> None:
        """Raises what ended it before."""
        self._over.set()
        self.join()
        if self.failed:
            raise self.failed


def wait_until_gone(seen: set[psutil.Process], seconds: float) -> tuple[float, list[str]]:
    """Wait for the end of all of ``seen``. Returns the seconds until then, and who lives even so."""
    began = time.monotonic()
    alive = psutil.wait_procs(seen, timeout=seconds)[1]
    return time.monotonic() - began, [f"{process.pid} {label(process.cmdline())}" for process in alive]
