"""How a step's rollouts are divided over its prompts."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from mrpo.config.base import StrictModel
from mrpo.errors import ConfigError, unknown_name
from mrpo.registry import module_names


class RoundsConfig(StrictModel):
    """Reinforce-Ada (arXiv 2510.04996): sample a prompt in rounds until it has what it needs to teach."""

    most: int = Field(default=4, ge=1)
    """Most rounds of a prompt. A round has as many rollouts as the allocator gives the prompt."""
    keep: int = Field(default=4, ge=2, multiple_of=2)
    """Rollouts of a prompt that are trained on, half above ``threshold`` and half not, as far as there are."""
    stop: Literal["balanced", "positive"] = "balanced"
    """Enough is: ``keep``/2 on each side, or one above."""
    reward: str = "total"
    """The reward that decides, or the weighted sum of those a rollout has (``total``)."""
    threshold: float = 0.0
    """A rollout is above if it scores more than this."""


class BudgetConfig(StrictModel):
    """The rollout budget. The defaults give every prompt the same number."""

    method: str = "uniform"
    """Allocator: uniform, neyman, dynamo, vip, knapsack or gvm."""
    rollouts_per_prompt: int = Field(default=8, ge=1)
    """Mean rollouts per prompt. Prompts times this is the total of a step, whatever the allocation."""
    low: int = Field(default=2, ge=0)
    """Fewest rollouts of a prompt. A group of one has no baseline in it, so 2 is the least that teaches."""
    high: int = Field(default=32, ge=1)
    """Most rollouts of a prompt."""
    unit: Literal["rollouts", "tokens"] = "rollouts"
    """What the total counts. With tokens the number of rollouts varies from step to step around the mean."""
    exploration: float | None = Field(default=None, ge=0)
    """Rollouts of a prompt without history. Unset: the mean of all prompts (dynamo: up to ``initial``)."""
    predictor: Literal["cumulative", "decayed", "beta"] = "decayed"
    """How history is read: all alike, older counts less, or that as a Beta posterior of the success rate."""
    decay: float = Field(default=0.995, gt=0, le=1)
    """What an observation still weighs one training step later. 1 never forgets."""
    prior: tuple[float, float] = (1.0, 1.0)
    """Successes and failures that the beta predictor starts from."""
    signal: Literal["bernoulli", "total_variance", "per_reward", "estimator"] = "bernoulli"
    """Whose variance counts: of "total above 0", of the total, of each reward, or what the estimator expects."""
    filter_groups: str | None = None
    """Dynamic sampling (DAPO): a prompt whose rollouts all score the same in this reward, or in the weighted sum of
    those it has (``total``), is thrown away and another prompt drawn for it. Unset: none is."""
    rounds: RoundsConfig | None = None
    """Sample prompts in rounds. All rollouts seen count in the estimator's statistics and in the history; those kept
    are trained on. Unset: one round, all kept."""
    reweight_by_n: bool = True
    """Weigh each rollout of a prompt by 1/n, so that sequence-mean losses count every prompt alike."""
    power: float | None = Field(default=None, ge=0.5, le=1)
    """dynamo: share in proportion to priority to this power. Unset: 1, as released; 0.5 is Neyman's."""
    mastery: float | None = Field(default=None, ge=0)
    """dynamo: mean from which a prompt counts as mastered. Unset: 0.85."""
    floor: float | None = Field(default=None, ge=0)
    """dynamo: least priority, and that of a mastered prompt. Unset: 0.01."""
    initial: float | None = Field(default=None, ge=0)
    """dynamo: rollouts that a prompt needs before it competes. Unset: 4."""
    above_low: bool | None = None
    """dynamo: shares are added to ``low``, as released, or clipped to the bounds. Unset: added."""
    estimator: Literal["rloo", "dr_grpo"] | None = None
    """vip: whose variance is minimised. Unset: rloo."""
    alpha: float | None = Field(default=None, ge=0)
    """gvm: weight of the term that grows as p falls to 0. Unset: 0.001."""
    beta: float | None = Field(default=None, ge=1)
    """gvm: exponent of that term. Unset: 2."""

    @field_validator("method")
    @classmethod
    def _known_method(cls, method: str) -> str:
        names = module_names("mrpo.budget.allocators")
        if method not in names:
            raise unknown_name("budget.method", method, names)
        return method

    @model_validator(mode="after")
    def _consistent(self) -> BudgetConfig:
        if not self.low <= self.rollouts_per_prompt <= self.high:
            raise ConfigError(
                f"budget.rollouts_per_prompt: given {self.rollouts_per_prompt}, "
                f"allowed low={self.low} to high={self.high}"
            )
        least = _LEAST_LOW.get(self.method, 0)
        if self.low < least:
            raise ConfigError(f"budget.low: given {self.low}, allowed {least} or more with method {self.method}")
        if self.method in ("knapsack", "gvm") and self.signal != "bernoulli":
            raise ConfigError(f"budget.signal: given {self.signal!r}, allowed 'bernoulli' with method {self.method}")
        if self.predictor == "beta" and self.signal != "bernoulli":
            raise ConfigError(f"budget.signal: given {self.signal!r}, allowed 'bernoulli' with predictor beta")
        if min(self.prior) <= 0:
            raise ConfigError(f"budget.prior: given {self.prior}, allowed numbers above 0")
        if self.rounds is not None and self.low * self.rounds.most < self.rounds.keep:
            raise ConfigError(
                f"budget.rounds.keep: given {self.rounds.keep}, allowed: at most low={self.low} x "
                f"most={self.rounds.most} rollouts, the fewest that a prompt may get"
            )
        for name in _OPTION_OF:
            if getattr(self, name) is not None and _OPTION_OF[name] != self.method:
                raise ConfigError(f"budget.{name}: given with method {self.method}, allowed with {_OPTION_OF[name]}")
        return self

    @property
    def trained_per_prompt(self) -> int:
        """Mean rollouts of a prompt that a step trains on."""
        return self.rounds.keep if self.rounds is not None else self.rollouts_per_prompt

    def options(self) -> dict[str, Any]:
        """What ``allocate`` takes by keyword: unit, exploration, and the method's own options where they are set."""
        own = {name: value for name in _OPTION_OF if (value := getattr(self, name)) is not None}
        return {"unit": self.unit, "exploration": self.exploration, **own}

    def total(self, prompts: int, mean_length: float = 1.0) -> int:
        """The step's total in ``unit``; in tokens, what uniform groups of ``mean_length`` responses would take."""
        rollouts = prompts * self.rollouts_per_prompt
        return rollouts if self.unit == "rollouts" else round(rollouts * mean_length)


_LEAST_LOW = {"vip": 2, "knapsack": 1}
_OPTION_OF = {
    **dict.fromkeys(("power", "mastery", "floor", "initial", "above_low"), "dynamo"),
    "estimator": "vip",
    **dict.fromkeys(("alpha", "beta"), "gvm"),
}
