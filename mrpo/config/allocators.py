"""The budget's methods, a class each: its options, their defaults (the vetted setting) and what it allows.

In a recipe the section stays flat, ``budget: {method: dynamo, mastery: 0.9, low: 8}``; ``method`` says which class
reads it. A method's formula is in ``mrpo.budget.allocators``, in the module of its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import BeforeValidator, Field, ValidationError

from mrpo.config.budget import BudgetConfig
from mrpo.errors import ConfigError, unknown_name


class UniformBudget(BudgetConfig):
    """The same number for everyone."""

    method: Literal["uniform"] = "uniform"


class NeymanBudget(BudgetConfig):
    """n ∝ σ: least variance of the gradient."""

    method: Literal["neyman"] = "neyman"


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


_Union = UniformBudget | NeymanBudget | DynamoBudget | VipBudget | KnapsackBudget | GvmBudget
METHODS: dict[str, type[BudgetConfig]] = {kind.model_fields["method"].default: kind for kind in get_args(_Union)}
"""The config class of every method."""


def parse_budget(given: Any) -> Any:
    """A flat mapping as its method's config; anything else as it is.

    >>> parse_budget({"method": "vip", "low": 4}).estimator
    'rloo'

    Raises:
        ConfigError: an unknown method, or an option that the method doesn't have.
    """
    if not isinstance(given, Mapping):
        return given
    method = given.get("method", "uniform")
    if method not in METHODS:
        raise unknown_name("budget.method", method, METHODS)
    refuse_foreign_options(method, given)
    refuse_foreign_options(method, given)
    return METHODS[method].model_validate(given)


Budget = Annotated[Annotated[_Union, Field(discriminator="method")], BeforeValidator(parse_budget)]
"""The budget section of a run."""


def refuse_foreign_options(method: str, given: Mapping[str, Any]) -> None:
    """Raises ConfigError for the first key that is, or is meant to be, an option of other methods only."""
    own, every = METHODS[method].model_fields, {name for kind in METHODS.values() for name in kind.model_fields}
    for name in given:
        nearest = name if name in every else next(iter(get_close_matches(str(name), sorted(every), n=1)), name)
        owners = [other for other, kind in METHODS.items() if nearest in kind.model_fields]
        if owners and method not in owners:
            hint = "" if nearest == name else f" Did you mean {nearest!r}?"
            raise ConfigError(
                f"budget.{name}: {method} has no such option; {', '.join(owners)} has.{hint} "
                f"Allowed with {method}: {', '.join(own)}."
            )


def method_config(method: str, options: Mapping[str, Any], **common: Any) -> BudgetConfig:
    """The config of a library call: a method's own ``options``, and fields that all methods share.

    Raises:
        ConfigError: an unknown method or option, or a value that isn't allowed.
    """
    if method not in METHODS:
        raise unknown_name("budget.method", method, METHODS)
    refuse_foreign_options(method, options)
    own = METHODS[method].own_options()
    for name in options:
        if name not in own:
            raise unknown_name(f"option of budget.method {method}", name, own)
    try:
        return METHODS[method](**options, **common)
    except ValidationError as error:
        raise ConfigError("\n".join(_finding(method, line) for line in error.errors())) from None


def _finding(method: str, line: Any) -> str:
    cause, name = line.get("ctx", {}).get("error"), line["loc"][0] if line["loc"] else ""
    if isinstance(cause, ConfigError):
        return str(cause)
    if line["type"] == "literal_error":
        return str(
            unknown_name(f"budget.{name}", line["input"], get_args(METHODS[method].model_fields[name].annotation))
        )
    return f"budget.{name}: given {line['input']!r}. {line['msg']}."
