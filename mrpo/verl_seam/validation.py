"""verl's validation metrics under our names.

verl's are ``kind/data source/variable/statistic``, where a variable is a reward under its name on the wire, or
``reward``: the weighted sum, which is ``total`` here. What verl counts beside the data sources (``num_turns``) has no
variable.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mrpo.record.metrics import name_part
from mrpo.rewards.wire import SCORE


def renamed(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """
    >>> renamed({"val-core/openai/gsm8k/reward/mean@1": 1.5, "val-aux/num_turns/max": 2})
    {'val-core/openai%2Fgsm8k/total/mean@1': 1.5, 'num_turns/max': 2}
    >>> renamed({"val-aux/gsm8k/score_reward/best@4/mean": 0.5})
    {'val-aux/gsm8k/reward/best@4/mean': 0.5}
    """
    return {_renamed(name): value for name, value in metrics.items()}


def _renamed(name: str) -> str:
    # From the right, as a data source may hold slashes: a statistic is mean@N, or best@N/mean.
    kind, *parts = name.split("/")
    length = next((n for n in (1, 2) if len(parts) > n + 1 and "@" in parts[-n]), None)
    if length is None:
        return name.removeprefix("val-aux/")
    *source, variable = parts[:-length]
    ours = "total" if variable == "reward" else variable.removeprefix(SCORE)
    return "/".join([kind, name_part("/".join(source)), ours, *parts[-length:]])
