"""What a budget's method has of its own: its options, their defaults (the vetted setting) and what it allows.

A method is a module of ``mrpo.budget.allocators``, found by name. One without a class here has ``BudgetConfig``.

In a recipe the section stays flat, ``budget: {method: dynamo, mastery: 0.9, low: 8}``; ``method`` says which class
reads it. A method's formula is in ``mrpo.budget.allocators``, in the module of its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny, model_validator

from mrpo.config.base import StrictModel, config_errors
from mrpo.config.budget import BudgetConfig, Predictor
from mrpo.config.method_options import MethodSection
from mrpo.errors import ConfigError
from mrpo.registry import module_names


class DynamoBudget(BudgetConfig):
    """DynaMO (arXiv 2602.19208), as released: n − low ∝ variance, with a mastery cut and a floor."""

    method: Literal["dynamo"] = "dynamo"
    power: float = Field(default=1.0, ge=0.5, le=1)
    """Share in proportion to priority to this power: 1 as released, 0.5 Neyman's."""
    mastery: float = Field(default=0.85, ge=0)
    """Mean from which a prompt counts as mastered."""
    floor: float = Field(default=0.01, ge=0)
    """Smallest priority, and that of a mastered prompt."""
    initial: float = Field(default=4, ge=0)
    """Rollouts that a prompt needs before it competes."""
    above_low: bool = True
    """Shares are added to ``low``, as released, or clipped to the bounds."""


class VipBudget(BudgetConfig):
    """VIP (arXiv 2602.01601): least variance of the estimator in use. A group of one has none, hence ``low`` >= 2."""

    min_low: ClassVar[int] = 2

    method: Literal["vip"] = "vip"
    estimator: Literal["rloo", "dr_grpo"] = "rloo"
    """Whose variance is minimised."""


class KnapsackBudget(BudgetConfig):
    """Knapsack RL (arXiv 2509.25849): most mixed groups. Not concave from 0 to 1 rollouts, hence ``low`` >= 1."""

    min_low: ClassVar[int] = 1
    needs_success_rates: ClassVar[bool] = True

    method: Literal["knapsack"] = "knapsack"


class GvmBudget(BudgetConfig):
    """GVM-RAFT (arXiv 2505.02391) with all gradient norms equal."""

    needs_success_rates: ClassVar[bool] = True

    method: Literal["gvm"] = "gvm"
    alpha: float = Field(default=1e-3, ge=0)
    """Weight of the term that grows as p falls to 0."""
    beta: float = Field(default=2.0, ge=1)
    """Exponent of that term."""


class HoraBudget(BudgetConfig):
    """HORA (arXiv 2605.07114): coverage, the chance that a prompt's rollouts hit at least once."""

    needs_success_rates: ClassVar[bool] = True

    method: Literal["hora"] = "hora"
    predictor: Predictor = "beta"
    """How history is read: ``beta`` keeps a doubt of prompts that have never hit, so that they are tried again."""


class PilotCommitBudget(BudgetConfig):
    """Pilot-Commit (arXiv 2605.26606): ``low`` rollouts of each prompt, the pilot, and when all of a step are there the
    rest of its total to those that vary. Two rollouts are the fewest that can."""

    min_low: ClassVar[int] = 2
    has_pilot: ClassVar[bool] = True

    method: Literal["pilot_commit"] = "pilot_commit"
    min_variance: float = Field(default=0.1, gt=0)
    """Unbiased variance of ``reward`` in the pilot from which a prompt gets more."""
    reward: str = "total"
    """The reward that decides, or the weighted sum of those a rollout has (``total``)."""

    @property
    def deciding(self) -> tuple[str, str] | None:
        return "budget.reward", self.reward

    @model_validator(mode="after")
    def _samples_in_no_other_rounds(self) -> PilotCommitBudget:
        if self.rounds is not None:
            raise ConfigError(
                "budget.rounds: given with method pilot_commit, which has rounds of its own, allowed: none"
            )
        return self


_WITH_OPTIONS: tuple[type[BudgetConfig], ...] = (
    DynamoBudget,
    VipBudget,
    KnapsackBudget,
    GvmBudget,
    HoraBudget,
    PilotCommitBudget,
)

METHODS: dict[str, type[BudgetConfig]] = {
    **dict.fromkeys(module_names("mrpo.budget.allocators"), BudgetConfig),
    **{model.model_fields["method"].default: model for model in _WITH_OPTIONS},
}
"""The config class of every method."""

BUDGET = MethodSection("budget", "method", "uniform", METHODS)

Budget = Annotated[SerializeAsAny[BudgetConfig], BeforeValidator(BUDGET.parse)]
"""Type of a run's budget section: from a flat mapping, the class that ``method`` names."""


def method_config(method: str, options: Mapping[str, Any], **common: Any) -> BudgetConfig:
    """The config of a library call: a method's own ``options``, and fields that all methods share.

    >>> method_config("vip", {"estimator": "dr_grpo"}, unit="tokens").options()
    {'unit': 'tokens', 'exploration': None, 'estimator': 'dr_grpo'}

    Raises:
        ConfigError: an unknown method or option, or a value that isn't allowed.
    """
    if method in METHODS:
        for name in options:
            if name in BudgetConfig.model_fields:
                own = METHODS[method].own_options()
                raise ConfigError(f"budget.{name}: is no option of {method}. Allowed: {', '.join(own) or 'none'}.")
    with config_errors():
        return _Call(budget={"method": method, **options, **common}).budget


class _Call(StrictModel):
    """So that a finding in a library call has the path that it has in a run's config."""

    budget: Budget
