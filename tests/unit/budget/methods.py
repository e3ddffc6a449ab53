"""Every allocator with its options, and the prompts of the worked examples."""

from __future__ import annotations

from typing import Any

import pytest

from mrpo.budget.allocators import ALLOCATORS
from mrpo.budget.greedy import MarginalGain
from mrpo.budget.offline import stats_from_counts, stats_from_rates
from mrpo.budget.stats import IntArray, PromptStats
from mrpo.config.allocators import METHODS as CONFIGS
from mrpo.config.allocators import method_config

B1 = stats_from_rates([0.05, 0.25, 0.5, 0.75, 0.95])
A1 = stats_from_counts([0, 2, 8, 14, 16, 0], [16, 16, 16, 16, 16, 0])
METHODS: list[tuple[str, dict[str, Any]]] = [
    ("uniform", {}),
    ("neyman", {}),
    ("dynamo", {}),
    ("dynamo", {"power": 0.5, "above_low": False}),
    ("vip", {"estimator": "rloo"}),
    ("vip", {"estimator": "dr_grpo"}),
    ("knapsack", {}),
    ("gvm", {}),
    ("hora", {}),
    ("pilot_commit", {}),
]
IDS = [" ".join([m, *map(str, o.values())]) for m, o in METHODS]
BY_PRIORITY = [
    pytest.param(m, o, id=i) for (m, o), i in zip(METHODS, IDS, strict=True) if m not in ("knapsack", "hora")
]
MIN_LOW = {name: kind.min_low for name, kind in CONFIGS.items()}


def marginal_gain(method: str, stats: PromptStats, low_G: IntArray, options: dict[str, Any]) -> MarginalGain:
    return ALLOCATORS[method](stats, low_G, method_config(method, options))
