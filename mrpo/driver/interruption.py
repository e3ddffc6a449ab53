"""Ending early, on request: a signal or a clock asks, the run saves, and its exit code says what to do next."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from types import FrameType, TracebackType
from typing import Any, NamedTuple

from mrpo.errors import ConfigError
from mrpo.exit_code import ExitCode

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
"""Preemption and a time limit; a scheduler's warning ahead of them; Ctrl-C."""

SAME_REQUEST_SECONDS = 1.0
"""A signal this soon after the first is the same request: a launcher passes on what the whole process group got."""


class Request(NamedTuple):
    """Who asked the run to end, and the monotonic time from which it should save."""

    cause: str
    time: float


class Interruption:
    """Watches for a request to end, in the main thread of the driver. Use it as a context manager.

    The first signal, or a time limit, only sets ``request``; the caller looks at it and has ``grace`` seconds to save.
    A second signal ends the process at once, unsaved: with ``FAILED`` if it is a SIGINT, from a person who won't wait,
    with ``REQUEUE`` if it is a SIGTERM, so that a scheduler's run goes on from its last checkpoint. SIGUSR1 is only
    ever a warning, and may come as often as it likes.

    Args:
        grace: seconds for saving, counted from the request.
        wall_clock: seconds from now until the run should save and end; None: no limit.
        slurm_margin: under SLURM, a limit lies this many seconds before the job's end (``SLURM_JOB_END_TIME``).

    Raises:
        ConfigError: the SLURM job ends within the margin, so that starting again and again would get nowhere.
    """

    def __init__(self, grace: float = 120.0, wall_clock: float | None = None, slurm_margin: float = 300.0):
        self.grace = grace
        self._signal: Request | None = None
        now = time.monotonic()
        self._limits = [] if wall_clock is None else [Request(f"the time limit of {wall_clock:g} s", now + wall_clock)]
        if (left := seconds_to_slurm_end(os.environ)) is not None:
            if left <= slurm_margin:
                raise ConfigError(
                    f"interrupt.slurm_margin: given {slurm_margin:g}, allowed: less than the {left:.0f} s that this "
                    "job has left"
                )
            self._limits.append(Request("the end of the SLURM job's time", now + left - slurm_margin))
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interruption:
        self._previous = {number: signal.getsignal(number) for number in SIGNALS}
        self.take_signals()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def take_signals(self) -> None:
        """Install the handlers, again where something else has installed its own meanwhile, as Ray does."""
        for number in SIGNALS:
            signal.signal(number, self._handle)

    @property
    def request(self) -> Request | None:
        """The first request that has been made; None while the run may go on."""
        now = time.monotonic()
        due = [limit for limit in self._limits if limit.time <= now]
        made = due if self._signal is None else [*due, self._signal]
        return min(made, key=lambda request: request.time, default=None)

    @property
    def seconds_left(self) -> float:
        """What is left of the grace period, 0 once it is over; infinite while nobody has asked."""
        request = self.request
        return float("inf") if request is None else max(0.0, request.time + self.grace - time.monotonic())

    def _handle(self, number: int, frame: FrameType | None) -> None:
        # A handler may run between any two instructions of the main thread: no locks, no buffered output.
        name, now = signal.Signals(number).name, time.monotonic()
        if self._signal is None:
            self._signal = Request(name, now)
        elif number != signal.SIGUSR1 and now - self._signal.time > SAME_REQUEST_SECONDS:
            message = f"{name} after {self._signal.cause}: ending at once; what isn't saved by now is lost"
            os.write(2, f"\nmrpo: {message}\n".encode())
            os._exit(ExitCode.FAILED if number == signal.SIGINT else ExitCode.REQUEUE)


def seconds_to_slurm_end(environment: Mapping[str, str]) -> float | None:
    """Seconds until SLURM ends this job; None outside of SLURM (or before its release 23.02).

    Raises:
        ConfigError: ``SLURM_JOB_END_TIME`` is not a time.
    """
    end = environment.get("SLURM_JOB_END_TIME")
    if end is None:
        return None
    if not end.isdigit():
        raise ConfigError(f"SLURM_JOB_END_TIME: given {end!r}, allowed: seconds since 1970")
    return int(end) - time.time()
