"""Every allocator with its options, and the prompts of the worked examples."""

from __future__ import annotations

from typing import Any

import pytest

from mrpo.budget.stats import PromptStats

B1 = PromptStats.from_rates([0.05, 0.25, 0.5, 0.75, 0.95])
A1 = PromptStats.from_counts([0, 2, 8, 14, 16, 0], [16, 16, 16, 16, 16, 0])
METHODS: list[tuple[str, dict[str, Any]]] = [
    ("uniform", {}),
    ("neyman", {}),
    ("dynamo", {}),
    ("dynamo", {"power": 0.5, "above_low": False}),
    ("vip", {"estimator": "rloo"}),
    ("vip", {"estimator": "dr_grpo"}),
    ("knapsack", {}),
    ("gvm", {}),
]
IDS = [" ".join([m, *map(str, o.values())]) for m, o in METHODS]
BY_PRIORITY = [pytest.param(m, o, id=i) for (m, o), i in zip(METHODS, IDS, strict=True) if m != "knapsack"]
LEAST_LOW = {"vip": 2, "knapsack": 1}
