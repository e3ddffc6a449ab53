"""Priorities between rewards: an easy one counts only where a harder one is met. GDPO, arXiv 2601.05242, Eq. 8.

Shapes: N rollouts, K rewards.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mrpo.config.advantage import Condition


def condition_rewards(rewards_NK: Tensor, names: Sequence[str], conditions: Sequence[Condition]) -> Tensor:
    """r_k <- r_k where r_l >= threshold, else ``otherwise``. Every condition is judged on the rewards as given, so
    their order is irrelevant; a missing r_l is not met; a missing r_k stays missing only where its condition is met."""
    conditioned_NK = rewards_NK.clone() if conditions else rewards_NK
    for condition in conditions:
        met_N = rewards_NK[:, names.index(condition.requires)] >= condition.threshold
        conditioned_NK[:, names.index(condition.reward)].masked_fill_(~met_N, condition.otherwise)
    return conditioned_NK
