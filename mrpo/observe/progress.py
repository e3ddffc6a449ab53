"""Where a run stands, worked out from its events and metrics. No drawing, no files, no clock of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median_low

from mrpo.record import metrics
from mrpo.record.alarms import Alarm, raised
from mrpo.record.jsonl import Record
from mrpo.record.phase import ALARMS, ENDS, MEASUREMENTS, WARNINGS, Phase

_RECENT = 9
"""Steps that the time left is judged by: enough for a median, few enough to follow a run that changes its pace."""


DRAWN = ("step", "time", "time/step", "rollout/response_length/mean")
"""What is kept of every step beside the rewards' means."""


@dataclass(frozen=True)
class PhaseRecord:
    """Something the run is or was at, since ``began`` (unix seconds)."""

    name: str
    began: float
    detail: str = ""


class Progress:
    """Feed it every event and every step's metrics, in the order of their times; ask it where the run stands.

    A resumed run goes on in the same folder: its new plan begins a new start-up, and steps that are run again replace
    what they were.
    """

    def __init__(self) -> None:
        self.total_steps: int | None = None
        self.rewards: list[str] = []
        self.steps: dict[int, Record] = {}
        """Of each step with a line, what is drawn by step. A whole line has hundreds of metrics, and a month's run has
        a hundred thousand steps."""
        self.step = 0
        """The last step that was completed."""
        self.startup: list[PhaseRecord] = []
        self.phase: PhaseRecord | None = None
        self.began: float | None = None
        self.training = False
        self.warnings: list[PhaseRecord] = []
        """What this attempt has warned of."""
        self.end: PhaseRecord | None = None
        """How the run ended, one of ``ENDS``; None while it goes on."""
        self.writer: tuple[str, int] | None = None
        """Host and process id of the run, as its plan announced them."""
        self._last_line: Record = {}
        self._seconds: deque[float] = deque(maxlen=_RECENT)
        self._step_began: float | None = None

    def feed(self, record: Record) -> None:
        """Take a line of events.jsonl (it has a phase) or of metrics.jsonl."""
        if self.began is None:
            self.began = record["time"]
        if "phase" in record:
            self._event(record)
        else:
            self._metrics(record)

    def _event(self, event: Record) -> None:
        name, step = event["phase"], event.get("step")
        if (
            (name == Phase.ATTEMPT and event.get("detail") != "1")
            or self.end is not None
            or (name == Phase.PLAN and self.training)
        ):
            self._restart(event["time"])
        if name == Phase.PLAN:
            self._plan(event)
        if name in (Phase.ATTEMPT, Phase.PLAN):
            return
        now = PhaseRecord(name, event["time"], str(event.get("detail") or ""))
        if name in ENDS:
            self.end = now
            return
        if name in ALARMS or name in MEASUREMENTS:  # what is raised is in the step's line
            return
        if name in WARNINGS:
            self.warnings.append(now)
            return
        if step is not None and not self.training:
            self.training, self._step_began = True, event["time"]
        if name == Phase.ROLLOUT and step is not None and step - 1 > self.step:
            self._completed(step - 1, event["time"])  # a step without a line of its own, or whose line is still to come
        if not self.training:
            self.startup.append(now)
        self.phase = now

    def _restart(self, time: float) -> None:
        self.startup, self.training, self.end, self.phase, self.began = [], False, None, None, time
        self.warnings = []
        self._step_began = None

    def _plan(self, event: Record) -> None:
        self.total_steps = event.get("total_steps", self.total_steps)
        self.step = event.get("first_step", self.step + 1) - 1
        self.rewards = list(event.get("rewards") or self.rewards)
        if "pid" in event and "host" in event:
            self.writer = (event["host"], event["pid"])

    def _metrics(self, record: Record) -> None:
        self.training, self._last_line = True, record
        for name in metrics.reward_names([record]):
            if name not in self.rewards:
                self.rewards.append(name)
        kept = (*DRAWN, *(f"reward/{name}/mean" for name in self.rewards))
        self.steps[record["step"]] = {name: record[name] for name in kept if name in record}
        if self._step_began is None and (seconds := metrics.number(record, "time/step")) is not None:
            self._seconds.append(seconds)
        if record["step"] != self.step:
            self._completed(record["step"], record["time"])

    def _completed(self, step: int, time: float) -> None:
        if self._step_began is not None:
            self._seconds.append(max(0.0, time - self._step_began) / max(1, step - self.step))
        self.step, self._step_began = step, time

    # ---- questions ----

    def step_seconds(self) -> float | None:
        """Seconds from one step's end to the next one's, the median of the recent ones.

        The lower of two middle ones: a first step is slow, and after the second one that is known.
        """
        return median_low(self._seconds) if self._seconds else None

    def last_step_seconds(self) -> float | None:
        return self._seconds[-1] if self._seconds else None

    def time_left(self, now: float) -> float | None:
        """Seconds until the last step ends; None while nobody can know."""
        pace = self.step_seconds()
        if self.total_steps is None or pace is None or self._step_began is None:
            return None
        remaining = max(0, self.total_steps - self.step)
        return max(0.0, remaining * pace - min(now - self._step_began, pace)) if remaining else 0.0

    def history(self, metric: str) -> list[float]:
        """The values by step of a reward's mean or one of ``DRAWN``, leaving out steps that lack it."""
        return metrics.series([self.steps[step] for step in sorted(self.steps)], metric)[1]

    def current(self, metric: str) -> float | None:
        """The metric in the last step that has a line."""
        return metrics.number(self._last_line, metric)

    def alarms(self) -> list[Alarm]:
        """What is raised in the last step that has a line."""
        return raised(self._last_line)

    def startup_seconds(self, now: float) -> list[tuple[PhaseRecord, float, bool]]:
        """While the run starts up: every phase of that, its seconds so far, and whether it is the one that runs now."""
        ends = [phase.began for phase in self.startup[1:]] + [self.end.began if self.end else now]
        return [
            (phase, end - phase.began, self.end is None and phase is self.phase)
            for phase, end in zip(self.startup, ends, strict=True)
        ]

    def where(self) -> str:
        """The step and phase that the run is in, or was in when it ended."""
        if self.phase and self.phase.name == Phase.EXPORT:
            return "the export after the last step"
        phase = f", {self.phase.name}" if self.phase else ""
        return f"step {self.step + 1}{phase}" if self.training else f"start-up{phase}"


def in_order(records: Iterable[Record]) -> list[Record]:
    """Lines of both files by time; a step's metrics come before a phase that begins at the same moment."""
    return sorted(records, key=lambda record: (record["time"], "phase" in record))


def change(values: list[float]) -> float | None:
    """The recent rise: the mean of the last 5 values less that of the 5 before (fewer when there are fewer)."""
    window = change_window(values)
    return fmean(values[-window:]) - fmean(values[-2 * window : -window]) if window else None


def change_window(values: list[float]) -> int:
    """Of how many values each of those two is the mean."""
    return min(5, len(values) // 2)


def direction(values: list[float]) -> int:
    """1 if the values have been rising, -1 if falling, 0 if the change is under a twentieth of their whole range."""
    rise, span = change(values), max(values, default=0.0) - min(values, default=0.0)
    return 0 if rise is None or abs(rise) <= 0.05 * span else (1 if rise > 0 else -1)


_BARS = "▁▂▃▄▅▆▇█"


def sparkline(values: list[float], width: int) -> str:
    """The whole history in ``width`` bars at most, from its lowest value to its highest. A constant is a flat line."""
    if not values or width < 1:
        return ""
    count = min(width, len(values))
    edges = [place * len(values) // count for place in range(count + 1)]
    means = [fmean(values[start:end]) for start, end in pairwise(edges)]
    low, span = min(means), max(means) - min(means)
    if span <= 1e-9 * max(1.0, abs(low)):
        return _BARS[3] * count
    return "".join(_BARS[round((value - low) / span * (len(_BARS) - 1))] for value in means)


def clock(seconds: float) -> str:
    """Seconds as 0:07, 12:31 or 1:02:03."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"
