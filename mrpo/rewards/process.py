"""One process that scores, seen from the parent: its state, the calls it holds, when it is late, how it ended.

    LOADING ── has loaded ──► READY ── closes its connection ──► CLOSING
       └────────────────────────┴───────────► GONE ◄────────────────┘

GONE is killed by its supervisor, with all that it started. It knows of its pool no more than two callbacks.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import IO, Any

from mrpo.owned import own
from mrpo.rewards.connection import Connection, Loaded, Task
from mrpo.rewards.outcome import Outcome

SUPERVISOR = "mrpo.rewards.supervisor"
GRACE = 0.25
"""Seconds, plus a tenth of the timeout, that the process has to report itself that a call is late."""
MAX_LOADING = 600.0
"""Seconds in which a process must have loaded its function."""
MAX_CLOSING = 3.0
"""Seconds in which a process that has closed its connection must have ended."""


class State(Enum):
    LOADING = auto()
    READY = auto()
    CLOSING = auto()
    GONE = auto()


@dataclass(eq=False, slots=True)
class Call:
    """One response to score, or those of a group."""

    payload: bytes
    outcome: asyncio.Future[list[Outcome]]
    """One a response and reward, or a single failure of all of them."""
    responses: int = 1
    since: float = 0.0
    """When it began in its process."""
    alone: bool = False
    """It was there when a process died: it gets one to itself."""

    def settle(self, *outcomes: Outcome) -> None:
        if not self.outcome.done():  # it is where its caller has gone
            self.outcome.set_result(list(outcomes))


class Process:
    """A process that scores as ``task`` says, under the interpreter ``python``, started at once.

    Args:
        log: the file that what it prints is added to; None: this process's standard error.
        on_room: called when it may have room for a call that it hadn't room for.
        on_gone: called once, when it was killed: with it, the calls it held, eldest first, and why.

    Raises:
        OSError: it can't be started.
    """

    def __init__(
        self,
        task: Task,
        python: str,
        log: Path | None,
        on_room: Callable[[], None],
        on_gone: Callable[[Process, list[Call], Outcome], None],
    ):
        self.on_room, self.on_gone, self.count = on_room, on_gone, len(task["scores"])
        self.timeout, self.patience = task["timeout"], task["timeout"] * 1.1 + GRACE
        self.loop, self.state = asyncio.get_running_loop(), State.LOADING
        self.calls: dict[int, Call] = {}
        """By number, eldest first."""
        self.numbers = itertools.count(1)
        self.loaded: Loaded = {"error": None, "concurrency": 0, "rate": None}
        self.pausing = False
        """Kept from the next call by its rate."""
        self.loading: asyncio.Future[str | None] = self.loop.create_future()
        """The error in loading; None: it has loaded."""
        self.exited: asyncio.Future[None] = self.loop.create_future()
        self.folder = tempfile.mkdtemp(prefix="mrpo-reward-")
        try:
            ours, self.popen = self._start(python, log)
        except OSError:
            shutil.rmtree(self.folder)
            raise
        self.connection = Connection(ours, self.loop, self._read)
        self.connection.send(0, pickle.dumps(task))
        self.timer: asyncio.TimerHandle | None = self.loop.call_later(MAX_LOADING, self._check)
        threading.Thread(target=_watch, args=(self.loop, self.popen.pid, self._exit), daemon=True).start()

    def _start(self, python: str, log: Path | None) -> tuple[socket.socket, subprocess.Popen[bytes]]:
        ours, theirs = socket.socketpair()
        lock = own(Path(self.folder))
        with theirs, open(lock), contextlib.ExitStack() as stack:  # from here on the supervisor holds the lock
            printed: int | IO[bytes] = 2
            if log is not None:
                with contextlib.suppress(OSError):  # what is printed isn't worth a reward
                    printed = stack.enter_context(open(log, "ab"))
            popen = subprocess.Popen(
                [python, "-P", "-m", SUPERVISOR, str(theirs.fileno()), str(os.getpid()), self.folder],
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=printed,
                pass_fds=[theirs.fileno(), lock],
                start_new_session=True,
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(entry or os.getcwd() for entry in sys.path),
                    "TMPDIR": self.folder,
                },
            )
        return ours, popen

    def has_room(self) -> bool:
        return self.state is State.READY and not self.pausing and len(self.calls) < self.loaded["concurrency"]

    def score(self, call: Call) -> None:
        """Give it ``call``, whose time starts now."""
        call.since, number = self.loop.time(), next(self.numbers)
        self.calls[number] = call
        self.connection.send(number, call.payload)
        if self.timer is None:
            self.timer = self.loop.call_later(self.patience, self._check)
        if self.loaded["rate"] is not None:
            self.pausing = True
            self.loop.call_later(1 / self.loaded["rate"], self._go_on)

    def end(self, failure: Outcome) -> None:
        """Kill it with all that it started, and give back its calls, with the reason."""
        if self.state is State.GONE:
            return
        self.state = State.GONE
        self.connection.close()
        self._stop_timer()
        for number in (signal.SIGTERM, signal.SIGCONT):  # the latter where the function has stopped it
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.popen.pid, number)
        if not self.loading.done():
            self.loading.set_result(failure.failure)
        self.on_gone(self, list(self.calls.values()), failure)

    def _read(self) -> None:
        """Take in what it has answered by now."""
        if self.state is State.GONE:
            return
        try:
            for number, content in self.connection.receive():
                if number:
                    outcomes = self._outcomes(content, self.calls[number].responses)
                    self.calls.pop(number).settle(*outcomes)
                else:
                    self._take_loaded(content)
        except (ValueError, TypeError, KeyError):
            self.end(Outcome.failed("crash", "the process that scored it sent garbage on its connection"))
        if self.connection.closed and self.state in (State.LOADING, State.READY):
            self.state = State.CLOSING
            failure = Outcome.failed("crash", "the process that scored it closed its connection")
            self.loop.call_later(MAX_CLOSING, self.end, failure)
        self.on_room()

    def _outcomes(self, content: list[Any], responses: int) -> list[Outcome]:
        if len(content) not in (1, self.count * responses):
            raise ValueError(f"{len(content)} outcomes of {self.count} rewards of {responses} responses")
        return [Outcome(*one) for one in content]

    def _take_loaded(self, loaded: Loaded) -> None:
        if self.loading.done():
            raise ValueError("loaded twice")
        self.loading.set_result(loaded["error"])
        self._stop_timer()
        if loaded["error"] is None:
            self.loaded, self.state = loaded, State.READY
        else:
            self.end(Outcome.failed("crash", "its function can't be loaded"))

    def _check(self) -> None:
        """End it if its eldest call is late, else look again when that may be: answers don't move the timer."""
        # Where this loop was busy for long, an answer may lie there that came in time.
        self._read()
        self.timer = None
        eldest = next(iter(self.calls.values()), None)
        if self.state in (State.CLOSING, State.GONE):  # it is ending, and that is what its calls have failed by
            return
        if not self.loading.done():
            self.end(Outcome.failed("crash", f"its function wasn't loaded within {MAX_LOADING:g} s"))
        elif eldest is not None and self.loop.time() >= eldest.since + self.patience:
            self.end(Outcome.late(self.timeout))
        elif eldest is not None:
            self.timer = self.loop.call_at(eldest.since + self.patience, self._check)

    def _stop_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def _go_on(self) -> None:
        self.pausing = False
        self.on_room()

    def _exit(self, how: str) -> None:
        self._read()
        role = "scored it" if self.loaded["concurrency"] else "was to load it"
        self.end(Outcome.failed("crash", f"the process that {role} {how}"))
        self.popen.wait()
        shutil.rmtree(self.folder, ignore_errors=True)  # the supervisor has, unless it was killed
        self.exited.set_result(None)


def _watch(loop: asyncio.AbstractEventLoop, pid: int, on_exit: Callable[[str], None]) -> None:
    """In a thread: report when and how process ``pid`` ended. Leaves it a zombie, so that its number stays its own."""
    how = "ended"
    with contextlib.suppress(ChildProcessError):  # where this process ignores SIGCHLD, children leave no status
        status = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        if status is not None and status.si_code == os.CLD_EXITED:
            how = f"exited with code {status.si_status}"
        elif status is not None:
            likely = "out of memory?" if status.si_status == signal.SIGKILL else signal.strsignal(status.si_status)
            how = f"was killed by signal {status.si_status} ({likely})"
    with contextlib.suppress(RuntimeError):  # the loop is closed
        loop.call_soon_threadsafe(on_exit, how)
