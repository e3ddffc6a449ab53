"""Say what a run waits for when nothing has moved for a while, and end it when nothing moves at all."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from mrpo.config.checkpoint import WatchdogConfig

GAVE_UP = 70
"""Exit code of the controller (EX_SOFTWARE)."""


class Watchdog:
    """Looks once a second, in a thread. ``moved`` says that the run does something.

    Args:
        config: after how many seconds.
        waits_for: what the run waits for just now, in words.
        report: called once for each stall that lasts for ``config.warn_after``.
        give_up: called when one has lasted for ``config.timeout``.
        clock: seconds.
    """

    def __init__(
        self,
        config: WatchdogConfig,
        waits_for: Callable[[], str],
        report: Callable[[str], None],
        give_up: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ):
        self.config, self.waits_for, self.report, self.give_up, self.clock = config, waits_for, report, give_up, clock
        self.since = clock()
        self.reported = False

    def moved(self) -> None:
        self.since, self.reported = self.clock(), False

    def look(self) -> None:
        still = self.clock() - self.since
        if still >= self.config.timeout:
            self.give_up(f"nothing has moved for {still:.0f} s: {self._what()}")
        elif still >= self.config.warn_after and not self.reported:
            self.reported = True
            self.report(f"nothing has moved for {still:.0f} s: {self._what()}")

    def _what(self) -> str:
        try:
            return self.waits_for()
        except Exception as error:  # not to know it must not end the watch
            return f"nobody could say for what ({type(error).__name__}: {error})"

    def start(self) -> None:
        def watch() -> None:
            while True:
                time.sleep(1)
                self.look()

        threading.Thread(target=watch, name="watchdog", daemon=True).start()
