"""The budget section of a run's config."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from mrpo.budget.allocate import allocate
from mrpo.budget.allocators import ALLOCATORS
from mrpo.budget.stats import PromptStats
from mrpo.config.budget import BudgetConfig

pytestmark = pytest.mark.unit


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
    config = BudgetConfig(**settings)
    stats = PromptStats.from_rates(np.linspace(0.02, 0.98, 10))
    n = allocate(config.method, stats, config.total(10), config.low, config.high, **config.options())
    assert n.sum() == 80


def test_every_method_can_be_named() -> None:
    for name in ALLOCATORS.names():
        assert BudgetConfig(method=name).method == name


def test_a_total_in_tokens_is_that_of_uniform_groups() -> None:
    assert BudgetConfig(unit="tokens", rollouts_per_prompt=4).total(10, mean_length=250.5) == 10_020


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"method": "neymann"}, "Did you mean 'neyman'"),
        ({"metod": "neyman"}, "Did you mean 'method'"),
        ({"low": 9}, "rollouts_per_prompt: given 8, allowed low=9 to high=32"),
        ({"high": 7}, "allowed low=2 to high=7"),
        ({"method": "vip", "low": 1}, "budget.low: given 1, allowed 2 or more"),
        ({"method": "knapsack", "low": 0}, "budget.low: given 0, allowed 1 or more"),
        ({"method": "gvm", "signal": "per_reward"}, "budget.signal: given 'per_reward'"),
        ({"predictor": "beta", "signal": "per_reward"}, "budget.signal: given 'per_reward'"),
        ({"method": "neyman", "power": 0.5}, "budget.power: given with method neyman, allowed with dynamo"),
        ({"method": "dynamo", "power": 0.4}, "greater than or equal to 0.5"),
        ({"decay": 0}, "greater than 0"),
        ({"prior": (0, 1)}, "budget.prior"),
    ],
)
def test_wrong_settings_are_refused_before_the_run(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        BudgetConfig(**settings)


def test_every_field_explains_itself() -> None:
    assert all(field.description for field in BudgetConfig.model_fields.values())
