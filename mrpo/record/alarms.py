"""Alarms of a run: advice on what its metrics say, raised once and cleared once. They never end a run.

Which are raised follows from the lines of ``metrics.jsonl`` alone, so that a resumed run goes on with what it was. A
line holds what is raised in its step as ``alarm/<alarm>/<of what>``, with the number that is past the threshold.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from mrpo.record.alarm_rules import FIRST_STEPS, RULES, Line
from mrpo.record.metrics import number
from mrpo.record.phase import Phase

if TYPE_CHECKING:
    from mrpo.config.alarms import AlarmsConfig

PREFIX = "alarm/"
CLEARED_AFTER = 3
"""Steps in a row, at least, in which an alarm's number isn't past its threshold."""


class Alarm(NamedTuple):
    """An alarm that is raised, in words."""

    name: str
    about: str
    """The rewards or the setting that it is about; empty: the run."""
    detail: str
    """What was found."""
    remedy: str
    """What to do."""

    @classmethod
    def of(cls, name: str, about: str, value: float) -> Alarm:
        """
        >>> Alarm.of("copied_reward", "polite/kind", 0.99).detail
        'polite and kind say the same (correlation 0.99 within groups), so that it counts twice'
        """
        shown = about.replace("/", " and ")
        if (rule := RULES.get(name)) is None:  # of another version's run
            return cls(name, shown, f"{name} {shown} ({value:g})", "")
        return cls(name, shown, rule.finding.format(about=shown, value=value), rule.remedy)

    def __str__(self) -> str:
        return ". ".join(filter(None, (self.detail, self.remedy))) + "."


class Change(NamedTuple):
    """An alarm is raised, or cleared."""

    phase: Phase
    name: str
    about: str
    value: float
    """When it was last past its threshold."""

    @property
    def detail(self) -> str:
        alarm = Alarm.of(self.name, self.about, self.value)
        return str(alarm) if self.phase == Phase.ALARM else " ".join(filter(None, (self.name, alarm.about)))


class Alarms:
    """Owner of what is raised: judges a run's lines one after the other.

    Args:
        config: the thresholds; None: no alarms.
    """

    def __init__(self, config: AlarmsConfig | None):
        self.config = config
        self.raised: dict[tuple[str, str], float] = {}
        """By alarm and what it is about, the number when it was last past its threshold."""
        self._first: list[dict[str, Any]] = []
        self._streaks: dict[tuple[str, str], int] = {}
        """Steps in a row past the threshold; below 0: not past it."""

    def judge(self, line: Line) -> list[Change]:
        """Take the next step's line; returns what it changes."""
        if len(self._first) < FIRST_STEPS:
            self._first.append(dict(line))
        changes = []
        for name, about, value, is_past, steps in measured(line, self.config, self._first):
            key = name, about
            streak = self._streaks.get(key, 0)
            streak = self._streaks[key] = max(streak, 0) + 1 if is_past else min(streak, 0) - 1
            if is_past and (key in self.raised or streak >= steps):
                if key not in self.raised:
                    changes.append(Change(Phase.ALARM, name, about, value))
                self.raised[key] = value
            elif key in self.raised and -streak >= max(steps, CLEARED_AFTER):
                changes.append(Change(Phase.ALARM_CLEARED, name, about, self.raised.pop(key)))
        return changes

    def metrics(self) -> dict[str, float]:
        """Of a step's line: how many alarms are raised, and each with its number."""
        if self.config is None:
            return {}
        each = {PREFIX + "/".join(filter(None, key)): value for key, value in self.raised.items()}
        return {f"{PREFIX}raised": float(len(self.raised)), **each}

    @classmethod
    def after(cls, lines: Iterable[Line], config: AlarmsConfig | None) -> Alarms:
        """As they are after a run's lines."""
        alarms = cls(config)
        for line in lines:
            alarms.judge(line)
        return alarms


def measured(
    line: Line, config: AlarmsConfig | None, first: list[dict[str, Any]]
) -> Iterator[tuple[str, str, float, bool, int]]:
    """Of each alarm that isn't switched off: its name, what it is about, the number, whether this is past the
    threshold, and for how many steps it must be."""
    for rule in RULES.values():
        if config is None or (threshold := getattr(config, rule.name)) is None:
            continue
        for about, value in rule.measure(line, first):
            if not set(about.split("/")) & set(getattr(threshold, "ignore", ())):
                yield rule.name, about, value, rule.is_past(value, threshold.at), threshold.steps


def past(line: Line, config: AlarmsConfig) -> list[Alarm]:
    """What a single step would be an alarm for, whatever the steps before it."""
    return [Alarm.of(name, about, value) for name, about, value, is_past, _ in measured(line, config, []) if is_past]


def raised(line: Line) -> list[Alarm]:
    """The alarms that a step's line says are raised, in words.

    >>> [alarm.detail for alarm in raised({"step": 7, "alarm/raised": 1.0, "alarm/truncated": 0.75})]
    ['75% of the responses reached data.max_response_length before their end']
    """
    return [Alarm.of(*key, value) for key, value in _of_line(line)]


def _of_line(line: Line) -> Iterator[tuple[tuple[str, str], float]]:
    for metric in line:
        name, _, about = metric.removeprefix(PREFIX).partition("/")
        if metric.startswith(PREFIX) and name != "raised" and (value := number(line, metric)) is not None:
            yield (name, about), value


class Span(NamedTuple):
    """From when to when an alarm was raised."""

    alarm: Alarm
    """With the last number."""
    first: int
    last: int
    """Steps, both included."""
    is_raised: bool
    """Still, in the run's last line."""


def spans(lines: Iterable[Mapping[str, Any]]) -> list[Span]:
    """All alarms of a run by its lines, those of the last line first."""
    open_spans: dict[tuple[str, str], Span] = {}
    over: list[Span] = []
    for line in lines:
        now = dict(_of_line(line))
        for key in open_spans.keys() - now.keys():
            over.append(open_spans.pop(key)._replace(is_raised=False))
        for key, value in now.items():
            first = open_spans[key].first if key in open_spans else line["step"]
            open_spans[key] = Span(Alarm.of(*key, value), first, line["step"], True)
    return [*open_spans.values(), *sorted(over, key=lambda span: -span.last)]


def alarm_notes(lines: Iterable[Line]) -> list[dict[str, str]]:
    """What a report says of a run's alarms: of each its name, what it is about, when, detail and remedy.

    >>> line = {"step": 7, "alarm/raised": 1.0, "alarm/truncated": 0.75}
    >>> [(note["name"], note["when"]) for note in alarm_notes([line, {**line, "step": 8}])]
    [('truncated', 'since step 7')]
    """
    return [
        {
            **span.alarm._asdict(),
            "when": f"since step {span.first}" if span.is_raised else f"steps {span.first}-{span.last}",
        }
        for span in spans(lines)
    ]
