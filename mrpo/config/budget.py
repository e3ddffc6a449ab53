"""How a step's rollouts are divided over its prompts: what all methods share.

Each method has a class of its own with its options, in ``mrpo.config.allocators``. Library calls of ``mrpo.budget``
check their arguments by the same classes, so that a default, a bound or a name stands in one place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from mrpo.config.base import StrictModel
from mrpo.errors import ConfigError

Unit = Literal["rollouts", "tokens"]
Predictor = Literal["cumulative", "decayed", "beta"]
Signal = Literal["bernoulli", "total_variance", "per_reward", "estimator"]


class RoundsConfig(StrictModel):
    """Sample a prompt in rounds until it has what it needs to teach (Reinforce-Ada, arXiv 2510.04996)."""

    RENAMED: ClassVar[Mapping[str, str]] = {"most": "max_rounds"}

    max_rounds: int = Field(default=4, ge=1)
    """Most rounds of a prompt. A round has as many rollouts as the allocator gives the prompt."""
    keep: int = Field(default=4, ge=2, multiple_of=2)
    """Rollouts of a prompt that are trained on, half above ``threshold`` and half not, as far as there are."""
    stop: Literal["balanced", "positive"] = "balanced"
    """Enough is: ``keep``/2 on each side, or one above."""
    reward: str = "total"
    """The reward that decides, or the weighted sum of those a rollout has (``total``). A prompt that it scores no
    rollout of is sampled in one round."""
    threshold: float = 0.0
    """A rollout is above if it scores more than this."""


class BudgetConfig(StrictModel):
    """The rollout budget, whatever the method. A method with options of its own has a class that adds them."""

    min_low: ClassVar[int] = 0
    """The smallest ``low`` that the method allows."""
    WITHOUT_EFFECT: ClassVar = {
        "decay": ("predictor", ("cumulative",)),
        "prior": ("predictor", ("cumulative", "decayed")),
    }
    needs_success_rates: ClassVar[bool] = False
    """Whether the method reads the signal's mean as a chance, which only the bernoulli signal gives."""
    has_pilot: ClassVar[bool] = False
    """Whether ``low`` rollouts of all of a step's prompts are sampled before the rest is divided."""

    method: str = "uniform"
    """Allocator: uniform, neyman, dynamo, vip, knapsack, gvm, hora or pilot_commit."""
    rollouts_per_prompt: int = Field(default=8, ge=1)
    """Mean rollouts per prompt. Prompts times this is the total of a step, whatever the allocation."""
    low: int = Field(default=2, ge=0)
    """Fewest rollouts of a prompt. A group of one has no baseline in it, so 2 is the fewest that teaches."""
    high: int = Field(default=32, ge=1)
    """Most rollouts of a prompt."""
    unit: Unit = "rollouts"
    """What the total counts. With tokens the number of rollouts varies from step to step around the mean."""
    exploration: float | None = Field(default=None, ge=0)
    """Rollouts of a prompt without history. Unset: the mean of all prompts (dynamo: up to ``initial``)."""
    predictor: Predictor = "decayed"
    """How history is read: all alike, older counts less, or that as a Beta posterior of the success rate."""
    decay: float = Field(default=0.995, gt=0, le=1)
    """What an observation still weighs one training step later. 1 never forgets."""
    prior: tuple[float, float] = (1.0, 1.0)
    """Successes and failures that the beta predictor starts from."""
    signal: Signal = "bernoulli"
    """Whose variance counts: of "total above 0", of the total, of each reward, or what the estimator expects."""
    filter_groups: str | None = None
    """Dynamic sampling (DAPO): a prompt whose group teaches nothing is thrown away and another prompt drawn for it.
    ``advantage``: one that the estimator in use gives no advantage. ``total``, or a reward's name: one whose rollouts
    all score the same in the weighted sum of the rewards they have, or in this reward; one with fewer than two scores
    stays. Unset: none is thrown away."""
    rounds: RoundsConfig | None = None
    """Sample prompts in rounds. All rollouts seen count in the estimator's statistics and in the history; those kept
    are trained on. Unset: one round, all kept."""
    reweight_by_n: bool = True
    """Weigh each rollout of a prompt by 1/n, so that sequence-mean losses count every prompt alike."""

    @model_validator(mode="after")
    def _consistent(self) -> BudgetConfig:
        if self.has_pilot and self.unit != "rollouts":
            raise ConfigError(
                f"budget.unit: given {self.unit} with method {self.method}, allowed: rollouts. What is left after the "
                "pilots is counted in rollouts."
            )
        if not self.low <= self.rollouts_per_prompt <= self.high:
            raise ConfigError(
                f"budget.rollouts_per_prompt: given {self.rollouts_per_prompt}, "
                f"allowed low={self.low} to high={self.high}"
            )
        self.require_low(self.low)
        if self.needs_success_rates and self.signal != "bernoulli":
            raise ConfigError(f"budget.signal: given {self.signal!r}, allowed 'bernoulli' with method {self.method}")
        if self.predictor == "beta" and self.signal != "bernoulli":
            raise ConfigError(f"budget.signal: given {self.signal!r}, allowed 'bernoulli' with predictor beta")
        if min(self.prior) <= 0:
            raise ConfigError(f"budget.prior: given {self.prior}, allowed numbers above 0")
        if self.rounds is not None:
            self._require_as_many_as_are_kept(self.rounds)
        return self

    def _require_as_many_as_are_kept(self, rounds: RoundsConfig) -> None:
        if self.low * rounds.max_rounds < rounds.keep:
            raise ConfigError(
                f"budget.rounds.keep: given {rounds.keep}, allowed: at most low={self.low} x "
                f"max_rounds={rounds.max_rounds} rollouts, the fewest that a prompt may get"
            )

    def require_low(self, low: int) -> None:
        """Raises ConfigError if the method needs a larger ``low``."""
        if low < self.min_low:
            raise ConfigError(f"budget.low: given {low}, allowed {self.min_low} or more with method {self.method}")

    @property
    def trained_per_prompt(self) -> int:
        """Mean rollouts of a prompt that a step trains on."""
        return self.rounds.keep if self.rounds is not None else self.rollouts_per_prompt

    @property
    def deciding(self) -> tuple[str, str] | None:
        """The reward by which it is decided in a step who gets more, after the name of the field that says it."""
        return None if self.rounds is None else ("budget.rounds.reward", self.rounds.reward)

    @classmethod
    def own_options(cls) -> list[str]:
        """Names of the options that the method has beyond those of all."""
        return [name for name in cls.model_fields if name not in BudgetConfig.model_fields]

    def options(self) -> dict[str, Any]:
        """What ``allocate`` takes by keyword: unit, exploration, and the method's own options."""
        return {name: getattr(self, name) for name in ("unit", "exploration", *self.own_options())}

    def total(self, prompts: int, mean_length: float = 1.0) -> int:
        """The step's total in ``unit``; in tokens, what uniform groups of ``mean_length`` responses would take."""
        rollouts = prompts * self.rollouts_per_prompt
        return rollouts if self.unit == "rollouts" else round(rollouts * mean_length)
