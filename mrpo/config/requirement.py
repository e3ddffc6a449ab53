"""What a reward may require of another one: a number to reach, numbers by step, or a condition that keeps a share."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType
from typing import Annotated, Any

from pydantic import Field, PlainSerializer, PlainValidator

from mrpo.config.advantage import Condition
from mrpo.config.base import StrictModel
from mrpo.config.schedule import Schedule, at, is_schedule, parse, plain
from mrpo.errors import ConfigError


class SoftCondition(StrictModel):
    """A reward counts less, rather than not at all, where another one isn't reached (GEAR, arXiv 2606.03361)."""

    at_least: float | None = None
    """What the other reward must reach. Unset: the reward counts the more the higher the other one is in its range."""
    retain: float = Field(ge=0, le=1)
    """Share of the reward that counts where the other one isn't reached (GEAR's lambda): 0 none, as with a plain
    number; 0.2 a strong condition, 0.6 a weak one; 1 no condition."""

    def __str__(self) -> str:
        at_least = "by its place in its range" if self.at_least is None else f"{self.at_least:g}"
        return f"{at_least} (else {self.retain:g} of it)"


def _requirement(given: Any) -> float | Schedule | SoftCondition:
    if isinstance(given, SoftCondition):
        return given
    if is_schedule(given) or not isinstance(given, Mapping | str | bool | NoneType | list):
        return parse(given)
    if isinstance(given, Mapping):
        return SoftCondition.model_validate(dict(given))
    raise ConfigError(f"given {given!r}, allowed: a number, or {{at_least: NUMBER, retain: 0 to 1}}.")


def _plain(value: float | Schedule | SoftCondition) -> Any:
    return value.model_dump() if isinstance(value, SoftCondition) else plain(value)


Requirement = Annotated[float | Schedule | SoftCondition, PlainValidator(_requirement), PlainSerializer(_plain)]
"""What another reward must reach: a number, or numbers by step, or a condition that keeps a share."""


def conditions(reward: str, requires: Mapping[str, Requirement], step: int | None) -> tuple[Condition, ...]:
    """What ``reward`` requires in ``step``, as the estimators read it; None: at the ends of schedules."""
    return tuple(
        Condition(reward=reward, requires=other, threshold=of.at_least, retain=of.retain)
        if isinstance(of, SoftCondition)
        else Condition(reward=reward, requires=other, threshold=at(of, step))
        for other, of in requires.items()
    )
