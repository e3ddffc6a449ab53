"""What a run shows while it runs: a display that redraws itself on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.live import Live

from mrpo.observe.log_line import line_for
from mrpo.observe.panel import draw
from mrpo.observe.progress import Progress, in_order
from mrpo.record.jsonl import Record
from mrpo.record.run_folder import RunFolder

GONE = "gone"
"""The outcome of a run whose processes are gone, and which recorded no end."""


class LiveDisplay:
    """Tails a run's files and shows where it stands. Use it as a context manager and call ``poll`` now and then.

    Args:
        folder: the run; its files may not exist yet.
        console: where to show it; stdout if None.
        interactive: redraw in place (True) or print a plain line per step and start-up phase (False). If None, the
            former on a terminal only.
        now: the clock, in unix seconds.
    """

    def __init__(
        self,
        folder: RunFolder,
        console: Console | None = None,
        *,
        interactive: bool | None = None,
        now: Callable[[], float] = time.time,
    ):
        self.folder, self.console, self.progress = folder, console or Console(), Progress()
        # Not console.is_terminal: that is also true when an environment variable forces colours into a log.
        on_terminal = self.console.file.isatty() and not self.console.is_dumb_terminal
        self.interactive = on_terminal if interactive is None else interactive
        self._now = now
        self._events, self._metrics = folder.tail_events(), folder.tail_metrics()
        self._live = Live(console=self.console, auto_refresh=False) if self.interactive else None

    def __enter__(self) -> LiveDisplay:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.poll()
        finally:
            if self._live is not None:
                self._live.stop()

    @property
    def outcome(self) -> str | None:
        """How the run ended, one of ``mrpo.record.phase.ENDS``; None while it goes on."""
        return self.progress.end.name if self.progress.end else None

    def skip_history(self) -> None:
        """Read what earlier attempts have left without printing it again."""
        for record in self._new():
            self.progress.feed(record)

    def _new(self) -> list[Record]:
        return in_order(self._events.poll() + self._metrics.poll())

    def poll(self) -> None:
        """Read what was added to the run's files and show it."""
        for record in self._new():
            self.progress.feed(record)
            if self._live is None and (line := line_for(self.progress, record, self.folder)):
                print(line, file=self.console.file, flush=True)
        if self._live is not None:
            self._live.update(draw(self.progress, self.folder, self._now(), self.console.width), refresh=True)


def watch(
    folder: RunFolder,
    is_alive: Callable[[], bool],
    console: Console | None = None,
    *,
    interval_s: float = 0.25,
    grace_s: float = 2.0,
) -> str:
    """Show a run until it ends or ``is_alive`` says that it is gone.

    Args:
        folder: the run.
        is_alive: whether anything is left that could still write.
        console: where to show it; stdout if None.
        interval_s: seconds between two polls.
        grace_s: seconds to wait for the end of a run whose processes are gone: another process may yet record it.
    Returns:
        One of ``mrpo.record.phase.ENDS``, or GONE for a run whose processes are gone without an end on record.
    """
    with LiveDisplay(folder, console) as display:
        display.poll()
        last_seen = time.monotonic()
        while display.outcome is None and time.monotonic() - last_seen <= grace_s:
            if is_alive():
                last_seen = time.monotonic()
            time.sleep(interval_s)
            display.poll()
    return display.outcome or GONE
