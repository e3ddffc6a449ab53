"""Numbers that follow the training step: ``weight: {0: 0, 100: 1}`` in place of ``weight: 1``.

A schedule is a pure function of the step, so that nothing of it has to be saved: a run that goes on is where it was.

    {0: 0, 100: 1}           from 0 to 1 in equal parts over the first 100 steps, 1 from then on
    {step: {0: 0, 100: 1}}   0 up to step 99, 1 from step 100 on

Before its first point it has the first value, after its last the last. Steps count from 1, as everywhere in a run.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, PlainSerializer, PlainValidator

from mrpo.errors import ConfigError

Form = Literal["linear", "step"]
ALLOWED = "a number, or numbers by step: {0: 0, 100: 1}, linear between them, or {step: {0: 0, 100: 1}}, in steps"


@dataclass(frozen=True)
class Schedule:
    """A piecewise function of the step.

    >>> Schedule(((0, 0.0), (100, 1.0))).at(25)
    0.25
    >>> Schedule(((0, 0.0), (100, 1.0)), "step").at(99)
    0.0
    """

    points: tuple[tuple[int, float], ...]
    """Steps, increasing, and the value from each on."""
    form: Form = "linear"

    def at(self, step: int | None) -> float:
        """The value in ``step``; None: the last."""
        steps, values = zip(*self.points, strict=True)
        after = len(steps) if step is None else bisect_right(steps, step)
        if after in (0, len(steps)):
            return values[-1 if after else 0]
        low, high = values[after - 1], values[after]
        if self.form == "step" or low == high or step == steps[after - 1]:
            return low
        share = (step - steps[after - 1]) / (steps[after] - steps[after - 1])
        return float(low + share * (high - low))

    @property
    def values(self) -> tuple[float, ...]:
        """Of its points. All others lie between them."""
        return tuple(value for _, value in self.points)

    def plain(self) -> dict[Any, Any]:
        """As a recipe has it."""
        points = dict(self.points)
        return points if self.form == "linear" else {self.form: points}

    def __format__(self, of_values: str) -> str:
        """``of_values``: the format of its values, as for a number."""
        shown = "{" + ", ".join(f"{step}: {value:{of_values or 'g'}}" for step, value in self.points) + "}"
        return shown if self.form == "linear" else f"{{{self.form}: {shown}}}"

    def __str__(self) -> str:
        return format(self)


def at(value: float | Schedule, step: int | None) -> float:
    """The value in ``step``, of a schedule or of a number that is the same in every step; None: at the end."""
    return value.at(step) if isinstance(value, Schedule) else value


def values(value: float | Schedule) -> tuple[float, ...]:
    """Those between which it stays."""
    return value.values if isinstance(value, Schedule) else (value,)


def is_schedule(given: Any) -> bool:
    """Whether it is meant as one, among mappings that are something else."""
    return isinstance(given, Schedule) or (
        isinstance(given, Mapping) and all(key in ("linear", "step") or _step(key) is not None for key in given)
    )


def plain(value: float | Schedule) -> Any:
    """As a recipe has it."""
    return value.plain() if isinstance(value, Schedule) else value


def parse(given: Any) -> float | Schedule:
    """
    Raises:
        ConfigError: it is neither a number nor a schedule.

    >>> parse({0: 0, 100: 1}).at(50), parse({"step": {0: 0, 100: 1}}).at(50), parse(2)
    (0.5, 0, 2.0)
    """
    if isinstance(given, Schedule):
        return given
    if isinstance(given, Mapping):
        return parse_schedule(given)
    if _is_number(given):
        return float(given)
    raise ConfigError(f"given {given!r:.80}, allowed: {ALLOWED}.")


def parse_schedule(given: Any) -> Schedule:
    """
    Raises:
        ConfigError: it is no schedule: its steps don't increase, say.
    """
    if isinstance(given, Schedule):
        return given
    form: Form = "linear"
    points = given
    if isinstance(given, Mapping) and len(given) == 1 and isinstance(next(iter(given.values())), Mapping):
        (name, points), *_ = given.items()
        if name not in ("linear", "step"):
            raise ConfigError(f"given {given!r:.80}, allowed: linear or step before the points.")
        form = name
    if not isinstance(points, Mapping) or not points:
        raise ConfigError(f"given {given!r:.80}, allowed: {ALLOWED.removeprefix('a number, or ')}.")
    steps = [_step(step) for step in points]
    if None in steps:
        wrong = list(points)[steps.index(None)]
        raise ConfigError(f"given the step {wrong!r:.40}, allowed: whole numbers from 0.")
    for value in points.values():
        if not _is_number(value):
            raise ConfigError(f"given the value {value!r:.40}, allowed: finite numbers.")
    found = tuple(zip((step for step in steps if step is not None), points.values(), strict=True))
    for (before, _), (after, _) in pairwise(found):
        if after <= before:
            raise ConfigError(f"given step {after} after step {before}, allowed: steps that increase.")
    return Schedule(found, form)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _step(given: Any) -> int | None:
    """JSON, and so a run folder's file, has texts for keys."""
    if isinstance(given, str) and given.isdecimal():
        return int(given)
    return given if isinstance(given, int) and not isinstance(given, bool) and given >= 0 else None


def _not_negative(value: float | Schedule) -> float | Schedule:
    if (lowest := min(values(value))) < 0:
        raise ConfigError(f"given {lowest:g}, allowed: 0 or more.")
    return value


_PLAIN = PlainSerializer(plain)
Scheduled = Annotated[float | Schedule, PlainValidator(parse), _PLAIN]
"""Type of a field: a number, or a schedule."""
NotNegative = Annotated[Scheduled, AfterValidator(_not_negative)]
"""The same, 0 or more in every step."""
ByStep = Annotated[Schedule, PlainValidator(parse_schedule), _PLAIN]
"""Type of a field: a schedule."""
