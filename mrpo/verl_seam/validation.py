"""verl's validation metrics under our names.

verl's are ``kind/data source/variable/statistic``, where a variable is a reward under its name on the wire, or
``reward``: the weighted sum, which is ``total`` here. A data source may hold slashes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mrpo.rewards.wire import SCORE

TURNS = "val-aux/num_turns/"
"""What verl counts beside the data sources."""


def renamed(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """
    >>> renamed({"val-core/openai/gsm8k/reward/mean@1": 1.5, "val-aux/num_turns/max": 2})
    {'val-core/openai/gsm8k/total/mean@1': 1.5, 'num_turns/max': 2}
    >>> renamed({"val-aux/gsm8k/score_reward/best@4/mean": 0.5})
    {'val-aux/gsm8k/reward/best@4/mean': 0.5}
    """
    return {_renamed(name): value for name, value in metrics.items()}


def _renamed(name: str) -> str:
    if name.startswith(TURNS):
        return name.removeprefix("val-aux/")
    # verl's statistics are mean@N, best@N/mean, …: the variable is what stands before the one with the @.
    parts = name.split("/")
    at = next((i for i, part in enumerate(parts) if "@" in part and i > 2), None)
    if at is not None:
        variable = parts[at - 1]
        parts[at - 1] = "total" if variable == "reward" else variable.removeprefix(SCORE)
    return "/".join(parts)
