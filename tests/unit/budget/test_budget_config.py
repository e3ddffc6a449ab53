"""The budget section of a run's config."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from mrpo.budget.allocate import allocate
from mrpo.budget.allocators import ALLOCATORS
from mrpo.budget.offline import stats_from_rates
from mrpo.config.allocators import BUDGET, METHODS, Budget
from mrpo.config.budget import BudgetConfig
from mrpo.registry import module_names

pytestmark = pytest.mark.unit


def budget(**settings: Any) -> BudgetConfig:
    """As a run's config reads its section."""
    return TypeAdapter(Budget).validate_python(settings)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"method": "neyman", "signal": "total_variance"},
        {"method": "dynamo", "power": 0.5, "mastery": 0.9, "floor": 0.02, "initial": 8, "above_low": False},
        {"method": "vip", "estimator": "dr_grpo"},
        {"method": "knapsack"},
        {"method": "gvm", "alpha": 0.01, "beta": 3.0},
    ],
)
def test_what_a_config_says_allocate_takes(settings: dict[str, Any]) -> None:
    config = budget(**settings)
    stats = stats_from_rates(np.linspace(0.02, 0.98, 10))
    n = allocate(config.method, stats, config.total(10), config.low, config.high, **config.options())
    assert n.sum() == 80


def test_every_method_can_be_named() -> None:
    assert sorted(METHODS) == ALLOCATORS.names() == module_names("mrpo.budget.allocators")
    for name, kind in METHODS.items():
        assert type(budget(method=name)) is kind
        assert budget(method=name).method == name
    assert budget() == BudgetConfig()


def test_a_total_in_tokens_is_that_of_uniform_groups() -> None:
    assert budget(unit="tokens", rollouts_per_prompt=4).total(10, mean_length=250.5) == 10_020


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "neymann"}, "Did you mean 'neyman'"),
        ({"metod": "neyman"}, "Did you mean 'method'"),
        ({"low": 9}, "rollouts_per_prompt: given 8, allowed low=9 to high=32"),
        ({"high": 7}, "allowed low=2 to high=7"),
        ({"method": "vip", "low": 1}, "budget.low: given 1, allowed 2 or more"),
        ({"method": "knapsack", "low": 0}, "budget.low: given 0, allowed 1 or more"),
        ({"method": "gvm", "signal": "per_reward"}, "budget.signal: given 'per_reward'"),
        ({"predictor": "beta", "signal": "per_reward"}, "budget.signal: given 'per_reward'"),
        ({"method": "neyman", "power": 0.5}, "power: neyman has no such option, only dynamo"),
        (
            {"method": "neyman", "pover": 0.5},
            "pover: unknown key. Did you mean 'power', an option of dynamo",
        ),
        (
            {"method": "dynamo", "estimator": "rloo"},
            "dynamo has no such option, only vip. Allowed with dynamo: above_low, decay",
        ),
        ({"rounds": {"most": 3}}, "most: is now max_rounds"),
        ({"low": 1, "rounds": {"max_rounds": 3}}, "at most low=1 x max_rounds=3"),
        ({"method": "dynamo", "power": 0.4}, "greater than or equal to 0.5"),
        ({"decay": 0}, "greater than 0"),
        ({"predictor": "beta", "prior": (0, 1)}, "budget.prior"),
    ],
)
def test_wrong_settings_are_refused_before_the_run(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        budget(**settings)


def test_every_field_explains_itself() -> None:
    for kind in METHODS.values():
        own = {name: field for name, field in kind.model_fields.items() if name != "method"}
        assert all(field.description for field in own.values())


def test_another_method_leaves_the_former_ones_options_behind() -> None:
    recipe = {"method": "uniform", "mastery": 0.9, "low": 4}  # said mastery for dynamo; the command line says uniform
    kept, note = BUDGET.switch(recipe, before="dynamo", kept={"method"})
    assert budget(**kept) == BudgetConfig(low=4)
    assert note == "budget: uniform has no mastery (the recipe's, for dynamo): left out"


def test_options_have_their_defaults_and_survive_the_run_folder() -> None:
    config = budget(method="dynamo", mastery=0.9)
    own = {"power": 1.0, "mastery": 0.9, "floor": 0.01, "initial": 4, "above_low": True}
    assert config.options() == {"unit": "rollouts", "exploration": None, **own}
    assert budget(**config.model_dump(mode="json")) == config
