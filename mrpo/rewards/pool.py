"""The processes that score one reward, seen from the parent: who gets which call, when one is given up, replacements.

A call waits in the queue until a process has room; its time starts when the process takes it, so it can't be late
because of others. The queue drains all the same: a process answers, dies or is killed within the timeout and a grace,
so a reward that hangs in every call takes about calls * timeout / processes.

A process that hangs or dies costs the one call that did it. A sync function has only one call in a process. Which of
an async one's concurrent calls blocked the event loop, or ended the process, can't be seen, so they are scored again,
each alone in a process; an await that is late is ended by the event loop and costs the others nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import glob
import itertools
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mrpo.errors import ConfigError
from mrpo.rewards.child import HEADER, Loaded, Task, frame
from mrpo.rewards.outcome import Outcome

GRACE = 0.25
"""Seconds, plus a tenth of the timeout, that the process has to tell itself that a call is late."""
LOADING = 600.0
"""Seconds in which a process must have loaded its function."""
RETRY = 10.0
"""Seconds before a function that can't be loaded again is tried again."""
HANG_UP = 1.0
"""Seconds in which a process that has closed its connection must have ended."""
CLOSING = 5.0
"""Seconds that closing waits at most for killed processes to be gone."""
LONGEST_ANSWER = 1 << 16
READ = 1 << 18


@dataclass(eq=False, slots=True)
class Call:
    """One response to score."""

    payload: bytes
    outcome: asyncio.Future[Outcome]
    since: float = 0.0
    """When it began in its process."""
    alone: bool = False
    """It was there when a process died: it gets one to itself."""


class Process:
    """One child process and the calls it holds, eldest first."""

    def __init__(self, pool: Pool):
        self.pool, self.loop = pool, asyncio.get_running_loop()
        self.calls: dict[int, Call] = {}
        self.numbers = itertools.count(1)
        self.loading: asyncio.Future[str | None] = self.loop.create_future()
        """The error in loading; None: it has loaded."""
        self.exited: asyncio.Future[None] = self.loop.create_future()
        self.loaded: Loaded | None = None
        self.ended = self.hung_up = False
        self.pausing = False
        """Kept from the next call by its rate."""
        self.incoming, self.outgoing = bytearray(), bytearray()
        self.connection, theirs = socket.socketpair()
        with theirs:
            command = [pool.python, "-P", "-m", "mrpo.rewards.child", str(theirs.fileno()), str(os.getpid())]
            path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
            self.popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=2,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": path},
            )
        self.connection.setblocking(False)
        self.loop.add_reader(self.connection, self._read)
        self._write(frame(0, pickle.dumps(pool.task)))
        self.timer: asyncio.TimerHandle | None = self.loop.call_later(LOADING, self._check)
        threading.Thread(target=_watch, args=(self.loop, self.popen.pid, self._exit), daemon=True).start()

    def takes(self, call: Call) -> bool:
        """Has it room for ``call`` now?"""
        if self.loaded is None or self.hung_up or self.pausing:
            return False
        if self.calls and (call.alone or next(iter(self.calls.values())).alone):
            return False
        return len(self.calls) < self.loaded["concurrency"]

    def send(self, call: Call) -> None:
        """Give it ``call``."""
        assert self.loaded is not None
        call.since = self.loop.time()
        number = next(self.numbers)
        self.calls[number] = call
        self._write(frame(number, call.payload))
        if self.timer is None:
            self.timer = self.loop.call_later(self.pool.patience, self._check)
        if self.loaded["rate"] is not None:
            self.pausing = True
            self.loop.call_later(1 / self.loaded["rate"], self._go_on)

    def end(self, failure: Outcome) -> None:
        """Kill it with all that it started, and give its calls back to the pool, with the reason."""
        if self.ended:
            return
        self.ended = True
        self.loop.remove_reader(self.connection)
        self.loop.remove_writer(self.connection)
        self.connection.close()
        if self.timer is not None:
            self.timer.cancel()
        _kill_tree(self.popen.pid)
        self.pool.lost(self, failure)

    def _write(self, data: bytes) -> None:
        if not self.outgoing:
            self.loop.call_soon(self._flush)
        self.outgoing += data

    def _flush(self) -> None:
        if self.ended:
            return
        try:
            del self.outgoing[: self.connection.send(self.outgoing)]
        except BlockingIOError:
            pass
        except OSError:  # it has ended, which is noticed elsewhere
            self.outgoing.clear()
        if self.outgoing:
            self.loop.add_writer(self.connection, self._flush)
        else:
            self.loop.remove_writer(self.connection)

    def _read(self) -> None:
        """Take in what it has answered by now."""
        data = b"-"
        while data and not self.ended:
            try:
                data = self.connection.recv(READ)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            self.incoming += data
        try:
            self._take_answers()
        except (ValueError, TypeError, KeyError):
            self.end(Outcome.failed("crash", "the process that scored it sent garbage on its connection"))
        if not data and not self.ended:
            self.hung_up = True
            self.loop.remove_reader(self.connection)
            failure = Outcome.failed("crash", "the process that scored it closed its connection")
            self.loop.call_later(HANG_UP, self.end, failure)
        self.pool.dispatch()

    def _take_answers(self) -> None:
        start = 0
        while len(self.incoming) >= start + HEADER.size:
            number, length = HEADER.unpack_from(self.incoming, start)
            if length > LONGEST_ANSWER:
                raise ValueError(f"an answer of {length} bytes")
            stop = start + HEADER.size + length
            if len(self.incoming) < stop:
                break
            content = json.loads(self.incoming[start + HEADER.size : stop])
            start = stop
            if number:
                call = self.calls.pop(number)
                if not call.outcome.done():
                    call.outcome.set_result(Outcome(*content))
            else:
                self._take_loaded(content)
        del self.incoming[:start]

    def _take_loaded(self, loaded: Loaded) -> None:
        if self.loading.done():
            raise ValueError("loaded twice")
        self.loading.set_result(loaded["error"])
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if loaded["error"] is None:
            self.loaded = loaded
        else:
            self.end(Outcome.failed("crash", "its function can't be loaded"))

    def _check(self) -> None:
        """End it if its eldest call is late, else look again when that may be."""
        self._read()  # or this loop was busy for so long that an answer lies there
        self.timer = None
        eldest = next(iter(self.calls.values()), None)
        if self.ended:
            return
        if not self.loading.done():
            self.end(Outcome.failed("crash", f"its function wasn't loaded within {LOADING:g} s"))
        elif eldest is not None:
            late_at = eldest.since + self.pool.patience
            if self.loop.time() >= late_at:
                self.end(Outcome.late(self.pool.task["timeout"]))
            else:
                self.timer = self.loop.call_at(late_at, self._check)

    def _go_on(self) -> None:
        self.pausing = False
        self.pool.dispatch()

    def _exit(self, how: str) -> None:
        self._read()
        role = "scored it" if self.loaded else "was to load it"
        self.end(Outcome.failed("crash", f"the process that {role} {how}"))
        self.popen.wait()
        self.exited.set_result(None)


class Pool:
    """``count`` processes that score as ``task`` says. Lives in one event loop, that of the first call."""

    def __init__(self, task: Task, count: int, python: str):
        self.task, self.count, self.python = task, count, python
        self.patience = task["timeout"] * 1.1 + GRACE
        """Seconds after which a process that hasn't answered is killed."""
        self.queue: deque[Call] = deque()
        self.processes: list[Process] = []
        self.leaving: set[Process] = set()
        """Killed, and not yet gone."""
        self.closed = False
        self.error = ""
        """Why there may be no processes."""
        self.not_before = 0.0

    async def start(self) -> None:
        """Start the processes, and wait until they have loaded the function.

        Raises:
            ConfigError: it can't be loaded, with the last lines of the error.
        """
        self._fill()
        errors = await asyncio.gather(*(process.loading for process in self.processes))
        if any(errors) or not self.processes:
            raise ConfigError(next((error for error in errors if error), self.error))

    def submit(self, payload: bytes) -> asyncio.Future[Outcome]:
        """The outcome of a call with the pickled arguments ``payload``."""
        call = Call(payload, asyncio.get_running_loop().create_future())
        self.queue.append(call)
        self.dispatch()
        return call.outcome

    async def close(self) -> None:
        """Kill the processes and wait until they are gone. What isn't scored yet has failed."""
        self.closed, self.error = True, "the scorer is closed"
        for process in tuple(self.processes):
            process.end(Outcome.failed("crash", self.error))
        self.dispatch()
        if self.leaving:
            await asyncio.wait([process.exited for process in self.leaving], timeout=CLOSING)

    def dispatch(self) -> None:
        """Hand out what can be: to the process with the fewest calls."""
        while self.queue:
            call = self.queue[0]
            if not call.outcome.done():  # it would be if its caller had gone
                able = [process for process in self.processes if process.takes(call)]
                if not able:
                    break
                min(able, key=lambda process: len(process.calls)).send(call)
            self.queue.popleft()
        if self.queue:
            self._fill()
        while self.queue and not self.processes:
            call = self.queue.popleft()
            if not call.outcome.done():
                call.outcome.set_result(Outcome.failed("crash", self.error))

    def lost(self, process: Process, failure: Outcome) -> None:
        """A process was killed: settle its calls, and replace it, unless it fell idle: then when it is needed."""
        self.processes.remove(process)
        self.leaving.add(process)
        process.exited.add_done_callback(lambda _: self.leaving.discard(process))
        if process.loaded is None:
            if not process.loading.done():
                process.loading.set_result(failure.failure)
            self._not_loaded(f"its function can't be loaded: {process.loading.result()}")
        calls = list(process.calls.values())
        if len(calls) == 1 and not calls[0].outcome.done():
            calls[0].outcome.set_result(failure)
        elif len(calls) > 1:
            for call in calls:
                call.alone = True
            self.queue.extendleft(reversed(calls))
        if calls:
            self._fill()
        self.dispatch()

    def _fill(self) -> None:
        now = asyncio.get_running_loop().time()
        while len(self.processes) < self.count and now >= self.not_before and not self.closed:
            try:
                self.processes.append(Process(self))
            except OSError as error:
                self._not_loaded(f"no process can be started: {error}")

    def _not_loaded(self, error: str) -> None:
        self.error = error
        self.not_before = asyncio.get_running_loop().time() + RETRY


def _watch(loop: asyncio.AbstractEventLoop, pid: int, callback: Callable[[str], None]) -> None:
    """In a thread: tell when and how process ``pid`` ended. Leaves it a zombie, so that its number stays its own."""
    how = "ended"
    with contextlib.suppress(ChildProcessError):  # where this process ignores SIGCHLD, children leave no status
        status = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        if status is not None and status.si_code == os.CLD_EXITED:
            how = f"exited with code {status.si_status}"
        elif status is not None:
            likely = "out of memory?" if status.si_status == signal.SIGKILL else signal.strsignal(status.si_status)
            how = f"was killed by signal {status.si_status} ({likely})"
    with contextlib.suppress(RuntimeError):  # the loop is closed
        loop.call_soon_threadsafe(callback, how)


def _kill_tree(pid: int) -> None:
    """Kill ``pid``, its process group, and its descendants in other groups."""
    found = [pid]
    for parent in found:
        for file in glob.glob(f"/proc/{parent}/task/*/children"):
            with contextlib.suppress(OSError):
                found += map(int, Path(file).read_text().split())
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    for one in found[1:]:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(one, signal.SIGKILL)
