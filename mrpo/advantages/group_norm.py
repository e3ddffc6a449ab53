"""A reward compared within its prompt's group: GRPO's normalization, shared by the whole family.

Shapes: N rollouts, K rewards, G prompt groups.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mrpo.advantages.groups import GroupStats, zero_variance_groups
from mrpo.advantages.presets import Conventions

if TYPE_CHECKING:
    from mrpo.advantages.batch import RewardBatch

ROUNDING = 1e-12
"""Relative size below which a difference of float64 sums is rounding."""


def group_normalize(values_NK: Tensor, stats: GroupStats, conventions: Conventions, *, ddof: int) -> Tensor:
    """(r - mean) / (std + eps) in each group and column; 0 where missing or of zero variance."""
    advantages_NK = stats.deviations_NK * deviation_factors(stats, conventions, ddof=ddof)
    return _groups_of_one(advantages_NK, values_NK / (1 + conventions.group_eps), stats, conventions)


def combine_and_normalize(batch: RewardBatch, weights_K: Tensor, *, std: bool) -> Tensor:
    """R = sum_k w_k r_k, then (R - mean) / (std + eps) in each group (or R - mean), as each reward's part of it (N,K).

    A missing score stands at its group's mean, so it moves neither the sum nor its statistics."""
    stats, conventions = batch.stats, batch.conventions
    parts_NK = weights_K * torch.where(batch.valid_NK, batch.rewards_NK, batch.groups.rows(stats.mean_GK))
    total_N1 = parts_NK.sum(dim=1, keepdim=True)
    scored_N1 = batch.scored_N[:, None]
    zero_variance_G1 = zero_variance_groups(total_N1, scored_N1, batch.groups, ROUNDING)
    of_group = GroupStats.of(total_N1, scored_N1, batch.groups, zero_variance_G1)
    total = batch.total_stats(of_group, total_N1)
    factor_N1 = deviation_factors(total, conventions, ddof=batch.ddof, std=std)
    zero_variance_N1 = batch.groups.rows(total.zero_variance_GK)
    advantages_NK = torch.where(zero_variance_N1, 0.0, weights_K * stats.deviations_NK * factor_N1)
    return _groups_of_one(advantages_NK, parts_NK / (1 + conventions.group_eps if std else 1), total, conventions)


def deviation_factors(stats: GroupStats, conventions: Conventions, *, ddof: int, std: bool = True) -> Tensor:
    """What turns a deviation from the group's mean into an advantage, per row and column: 1 / (std + eps).

    With ``leave_one_out``, mean and std are those of the group's other rows, and a std of 0 doesn't divide."""
    if not conventions.leave_one_out:
        std_GK = stats.std_GK(ddof) if std else torch.ones_like(stats.mean_GK)
        eps = conventions.group_eps if std else 0.0
        return stats.groups.rows(torch.where(std_GK > 0, 1 / (std_GK + eps), 0.0))
    count_NK, squares_NK = stats.groups.rows(stats.count_GK), stats.groups.rows(stats.squares_GK)
    others_NK = (count_NK - 1).clamp(min=1)
    centring_NK = count_NK / others_NK
    others_squares_NK = squares_NK - stats.deviations_NK.square() * centring_NK
    others_std_NK = (others_squares_NK.clamp(min=0) / (others_NK - ddof).clamp(min=1)).sqrt()
    divides_NK = others_squares_NK > ROUNDING * squares_NK
    return torch.where(divides_NK & std, centring_NK / (others_std_NK + conventions.group_eps), centring_NK)


def _groups_of_one(advantages_NK: Tensor, raw_NK: Tensor, stats: GroupStats, conventions: Conventions) -> Tensor:
    if conventions.singleton == "zero":
        return advantages_NK
    return torch.where(stats.groups.rows(stats.count_GK) == 1, raw_NK, advantages_NK)
