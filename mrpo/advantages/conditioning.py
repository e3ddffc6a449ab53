"""Priorities between rewards: an easy one counts only, or counts more, where a harder one is met.

hard (GDPO, arXiv 2601.05242, Eq. 8):  r_k <- r_k where r_l >= threshold, else ``otherwise``
soft (GEAR, arXiv 2606.03361):         r_k <- r_k prod_l f_l,  f_l = u_l + (1 - u_l) lambda_l

over the rewards l that k requires. u_l says how far l is met: 1 from its threshold on and 0 below, or without a
threshold its place in its range; times l's own prod f, so that what l requires counts for k, too, along a graph without
cycles. lambda = 0 is a gate, 1 no condition. Shapes: N rollouts, K rewards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mrpo.advantages.ranges import range_width
from mrpo.config.advantage import Condition

Ranges = Mapping[str, tuple[float, float]]


def condition_rewards(
    rewards_NK: Tensor, names: Sequence[str], conditions: Sequence[Condition], ranges: Ranges | None = None
) -> Tensor:
    """The rewards as they count. All conditions are judged on the rewards as given, so their order is irrelevant; a
    hard one on the required reward alone. A missing r_l is not met; a missing r_k stays missing, but where nothing of
    it would count.

    Args:
        rewards_NK: NaN: missing.
        names: of the columns.
        conditions: without cycles.
        ranges: bounds of rewards, [0, 1] if there are none; of those that are required without a threshold.
    """
    conditioned_NK = rewards_NK.clone() if conditions else rewards_NK
    for condition in conditions:
        factor_N = _factor(condition, rewards_NK, names, conditions, ranges or {})
        column_N = conditioned_NK[:, names.index(condition.reward)]
        kept_N = condition.otherwise + (column_N - condition.otherwise) * factor_N
        kept_N = torch.where(factor_N == 1, column_N, kept_N)
        column_N.copy_(kept_N.masked_fill(factor_N == 0, condition.otherwise))
    return conditioned_NK


def _factor(
    condition: Condition, rewards_NK: Tensor, names: Sequence[str], conditions: Sequence[Condition], ranges: Ranges
) -> Tensor:
    """f (N,) of one condition: 0 or 1 of a hard one."""
    required_N = rewards_NK[:, names.index(condition.requires)]
    if condition.threshold is None:
        low, _ = ranges.get(condition.requires, (0.0, 1.0))
        met_N = ((required_N - low) / range_width(condition.requires, ranges)).clamp(0, 1).nan_to_num(nan=0.0)
    else:
        met_N = (required_N >= condition.threshold).to(rewards_NK.dtype)
    if condition.retain is None:
        return met_N
    for inherited in conditions:
        if inherited.reward == condition.requires:
            met_N = met_N * _factor(inherited, rewards_NK, names, conditions, ranges)
    return met_N + (1 - met_N) * condition.retain
