"""When a run raises an alarm: the one table of thresholds. What each alarm says is in ``mrpo.record.alarm_rules``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import Field, model_validator

from mrpo.config.base import StrictModel
from mrpo.errors import unknown_name


class Threshold(StrictModel):
    """An alarm is raised when its number is past ``at`` in so many steps in a row, and cleared when it isn't in as many
    (three at least)."""

    at: float
    """What the alarm's number must be past."""
    steps: int = Field(ge=1)
    """Steps in a row, of those with a line in ``metrics.jsonl``."""


class Share(Threshold):
    """A threshold between 0 and 1."""

    at: float = Field(ge=0, le=1)


class OfReward(Threshold):
    """An alarm that is raised for each reward by itself."""

    ignore: tuple[str, ...] = ()
    """Rewards that it isn't raised for."""


class RewardShare(Share, OfReward):
    """A threshold between 0 and 1, for each reward by itself."""


class Multiple(Threshold):
    """A threshold of 1 or more."""

    at: float = Field(ge=1)


class RewardErrors(OfReward):
    """A threshold of 0 or less."""

    at: float = Field(le=0)


class AlarmsConfig(StrictModel):
    """Each alarm's threshold: set ``observe.alarms.<alarm>.at`` or ``steps``, or the alarm to null to switch it off."""

    dominant_reward: RewardShare | None = Field(default_factory=lambda: RewardShare(at=0.9, steps=5))
    """A reward's share of the advantage's mean square, above ``at``, while others are still to be learned."""
    constant_reward: RewardShare | None = Field(default_factory=lambda: RewardShare(at=0.9, steps=5))
    """Share of a reward's groups with zero variance, above ``at``, unless the run has learned it."""
    falling_reward: RewardErrors | None = Field(default_factory=lambda: RewardErrors(at=-2, steps=3))
    """A reward's covariance with the advantage in standard errors, below ``at``."""
    truncated: Share | None = Field(default_factory=lambda: Share(at=0.5, steps=1))
    """Share of truncated responses, above ``at``."""
    filtered: Share | None = Field(default_factory=lambda: Share(at=0.7, steps=5))
    """Share of the batch that a filter drops, above ``at``."""
    entropy_collapse: Share | None = Field(default_factory=lambda: Share(at=0.05, steps=5))
    """The policy's entropy as a share of the run's first steps', below ``at``."""
    engine_drift: Multiple | None = Field(default_factory=lambda: Multiple(at=5, steps=3))
    """Mean difference of a token's probability between engine and trainer, as a multiple of the run's first steps',
    above ``at``."""
    copied_reward: RewardShare | None = Field(default_factory=lambda: RewardShare(at=0.95, steps=5))
    """Correlation of two rewards within groups, above ``at``."""
    length_reward: RewardShare | None = Field(default_factory=lambda: RewardShare(at=0.9, steps=5))
    """Correlation of a reward with the response's length within groups, of either sign, above ``at``."""

    @model_validator(mode="before")
    @classmethod
    def _over_the_defaults(cls, given: Any) -> Any:
        """One number of an alarm may be set alone."""
        if not isinstance(given, dict):
            return given
        defaults = {name: field.get_default(call_default_factory=True) for name, field in cls.model_fields.items()}
        return {
            name: defaults[name].model_dump() | of if isinstance(of, dict) and name in defaults else of
            for name, of in given.items()
        }

    def require_known(self, rewards: Iterable[str]) -> None:
        """Raises ConfigError if an alarm ignores a reward that isn't among ``rewards``."""
        known = list(rewards)
        for name in type(self).model_fields:
            threshold = getattr(self, name)
            for reward in getattr(threshold, "ignore", ()):
                if reward not in known:
                    raise unknown_name(f"observe.alarms.{name}.ignore", reward, known, noun="reward")
