"""The processes that score one reward: which of them gets which call, who pays when one is lost, when it is replaced.

A call waits in the queue until a process has room; its time starts when the process takes it, so it can't be late
because of others. The queue drains all the same: a process answers, dies or is killed within the timeout and a grace,
so a reward that hangs in every call takes about calls * timeout / processes.

A process that hangs or dies costs the one call that did it. A sync function has only one call in a process. Which of
an async one's concurrent calls blocked the event loop, or ended the process, can't be seen, so they are scored again,
each alone in a process; an await that is late is ended by the event loop and costs the others nothing.

No library's pool is in its place: pebble 5.2.3, which kills on timeout too, runs no async functions side by side, kills
no grandchildren, and hangs for good where a function writes on its pipe; Ray isn't known here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from pathlib import Path

from mrpo.errors import ConfigError
from mrpo.rewards.connection import Task
from mrpo.rewards.outcome import Outcome
from mrpo.rewards.process import Call, Process

RETRY = 10.0
"""Seconds before a function that can't be loaded again is tried again."""
CLOSING = 5.0
"""Maximum of seconds that closing waits for killed processes to be gone."""


class Pool:
    """``count`` processes that score as ``task`` says and print into ``log``. Lives in one event loop, that of the
    first call."""

    def __init__(self, task: Task, count: int, python: str, log: Path | None = None):
        self.task, self.count, self.python, self.log = task, count, python, log
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

    def submit(self, payload: bytes, responses: int = 1) -> asyncio.Future[list[Outcome]]:
        """What a call with the pickled arguments ``payload``, about so many responses, comes to: an outcome for each of
        them and of the task's scores, or a single failure of all."""
        call = Call(payload, asyncio.get_running_loop().create_future(), responses)
        self.queue.append(call)
        self._dispatch()
        return call.outcome

    async def close(self) -> None:
        """Kill the processes and wait until they are gone. What isn't scored yet has failed."""
        self.closed, self.error = True, "the scorer is closed"
        for process in tuple(self.processes):
            process.end(Outcome.failed("crash", self.error))
        self._dispatch()
        if self.leaving:
            await asyncio.wait([process.exited for process in self.leaving], timeout=CLOSING)

    def _dispatch(self) -> None:
        """Hand out what can be; what never can be has failed."""
        while self.queue:
            call = self.queue[0]
            if not call.outcome.done():  # it would be if its caller had gone
                process = self._process_for(call)
                if process is None:
                    break
                process.score(call)
            self.queue.popleft()
        if self.queue:
            self._fill()
        while self.queue and not self.processes:
            self.queue.popleft().settle(Outcome.failed("crash", self.error))

    def _process_for(self, call: Call) -> Process | None:
        """The process with the fewest calls among those with room; one that is to be alone shares with none."""
        able = []
        for process in self.processes:
            held = next(iter(process.calls.values()), None)
            if process.has_room() and (held is None or not (call.alone or held.alone)):
                able.append(process)
        return min(able, key=lambda process: len(process.calls), default=None)

    def _replace(self, process: Process, calls: list[Call], failure: Outcome) -> None:
        """``process`` was killed, while it held ``calls``: settle them, and start another in its place."""
        self.processes.remove(process)
        self.leaving.add(process)
        process.exited.add_done_callback(lambda _: self.leaving.discard(process))
        if (error := process.loading.result()) is not None:
            self._not_loaded(f"its function can't be loaded: {error}")
        if len(calls) == 1:
            calls[0].settle(failure)
        else:
            for call in calls:
                call.alone = True
            self.queue.extendleft(reversed(calls))
        # One that was lost while idle is replaced when a call needs it: what kills idle processes would do so for ever.
        if calls:
            self._fill()
        self._dispatch()

    def _fill(self) -> None:
        now = asyncio.get_running_loop().time()
        while len(self.processes) < self.count and now >= self.not_before and not self.closed:
            try:
                self.processes.append(Process(self.task, self.python, self.log, self._dispatch, self._replace))
            except OSError as error:
                self._not_loaded(f"no process can be started: {error}")

    def _not_loaded(self, error: str) -> None:
        self.error = error
        self.not_before = asyncio.get_running_loop().time() + RETRY
