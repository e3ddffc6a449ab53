"""When somebody was at work, told by the one who was, in little: intervals, and shares of a step's parts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

Interval = tuple[float, float]
"""When work began and ended, in seconds before it was asked for: no clock is compared with another machine's."""

GAP = 0.005
"""Seconds without work that are none: as long as a message between processes takes."""
MAX_INTERVALS = 10_000
"""That are remembered until somebody asks."""
PARTS = 60
"""Of a step, as it is drawn."""


class BusyTimes:
    """At work is whoever has at least one thing to do, however many they are.

    >>> clock = iter([10.0, 11.0, 12.0, 14.0, 15.0]).__next__
    >>> times = BusyTimes(clock)
    >>> with times.at_work():  # from 10 on
    ...     with times.at_work(), times.at_work():
    ...         pass
    >>> with times.at_work():  # ended at 11, at work again from 12 to 14
    ...     pass
    >>> times.take()
    [(5.0, 4.0), (3.0, 1.0)]
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self.clock = clock
        self.under_way, self.began = 0, 0.0
        self.intervals: list[Interval] = []

    @contextmanager
    def at_work(self) -> Iterator[None]:
        if self.under_way == 0:
            self.began = self.clock()
        self.under_way += 1
        try:
            yield
        finally:
            self.under_way -= 1
            if self.under_way == 0:
                self._add(self.began, self.clock())

    def take(self) -> list[Interval]:
        """Those since the last call, the oldest first. What is under way counts until now, and goes on from now."""
        now = self.clock()
        if self.under_way:
            self._add(self.began, now)
            self.began = now
        taken, self.intervals = self.intervals, []
        return [(now - began, now - ended) for began, ended in taken]

    def _add(self, began: float, ended: float) -> None:
        if self.intervals and began - self.intervals[-1][1] < GAP:
            began = self.intervals.pop()[0]
        self.intervals.append((began, ended))
        del self.intervals[:-MAX_INTERVALS]


def busy_shares(workers: Sequence[Sequence[Interval]], seconds: float, parts: int = PARTS) -> list[float]:
    """Of each of ``parts`` equal parts of the last ``seconds``, which share of it the workers were at work in, on
    average over them.

    >>> busy_shares([[(4.0, 2.0)], [(9.0, 3.0), (0.5, 0.0)]], seconds=4.0, parts=4)
    [1.0, 0.5, 0.0, 0.25]
    """
    if not workers or seconds <= 0:
        return []
    width = seconds / parts
    shares = [0.0] * parts
    for began, ended in (interval for intervals in workers for interval in intervals):
        first, last = max(0.0, seconds - began) / width, (seconds - ended) / width
        for part in range(int(first), min(parts, int(last) + 1)):
            shares[part] += max(0.0, min(last, part + 1) - max(first, part))
    return [share / len(workers) for share in shares]
