"""Group statistics that lean on what the prompt's earlier rollouts earned. After DBB, arXiv 2603.18444, for K rewards.

kappa_g = min(strength, rollouts that the history counts)        n: rollouts of the group, N = kappa_g + n
m   = (kappa_g m_hist + n m_group) / N
E2  = (kappa_g E2_hist + n E2_group) / N        s^2 = (E2 - m^2) N / (N - ddof)        A_kj = (r_kj - m) / (s + eps)

per reward. A group of one, or one in which all earn the same, has an advantage then: better or worse than the prompt
was. The price is bias, as the policy that the history is of isn't the one that is compared. strength -> 0: the group
alone. strength -> inf: every rollout counts alike, the history's and the group's, as in DBB; and the history alone, if
it holds infinitely many.
Shapes: N rollouts, K rewards, G prompt groups, C columns (the rewards, then their weighted sum).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mrpo.advantages.groups import GroupStats

ROUNDING = 4 * torch.finfo(torch.float32).eps
"""Relative size below which a difference is rounding: histories are kept in float32."""


@dataclass(frozen=True)
class GroupHistory:
    """What was known of each group's prompt before its rollouts, in the rewards' own units, conditions applied. Rows
    are the groups in the order of their ids."""

    trials_GC: Tensor
    """Rollouts seen, or their decayed weight; 0: none."""
    mean_GC: Tensor
    variance_GC: Tensor

    def __post_init__(self) -> None:
        shapes = {tuple(one.shape) for one in (self.trials_GC, self.mean_GC, self.variance_GC)}
        if len(shapes) > 1 or self.trials_GC.ndim != 2:
            raise ValueError(f"history: given shapes {sorted(shapes)}, allowed: one (G, C) for all.")

    def mapped(self, low_C: Tensor, width_C: Tensor) -> GroupHistory:
        """In units in which ``low`` is 0 and ``low + width`` 1."""
        return GroupHistory(self.trials_GC, (self.mean_GC - low_C) / width_C, self.variance_GC / width_C**2)

    def rows(self, kept_G: Tensor) -> GroupHistory:
        """Of these groups alone, bool (G,)."""
        return GroupHistory(*(one[kept_G] for one in (self.trials_GC, self.mean_GC, self.variance_GC)))

    def columns(self, start: int, end: int) -> GroupHistory:
        return GroupHistory(*(one[:, start:end] for one in (self.trials_GC, self.mean_GC, self.variance_GC)))


def shrink(
    stats: GroupStats, history: GroupHistory, strength: float, values_NK: Tensor, valid_NK: Tensor
) -> GroupStats:
    """``stats`` of the values' groups together with the history, as many rollouts of it as ``strength`` says."""
    known_GK = (history.trials_GC > 0) & ~history.mean_GC.isnan()
    weight_GK = torch.where(known_GK, history.trials_GC.clamp(max=strength), 0.0)
    mean_GK = torch.where(known_GK, history.mean_GC, 0.0)
    variance_GK = torch.where(known_GK, history.variance_GC, 0.0).nan_to_num(nan=0.0).clamp(min=0)
    count_GK = weight_GK + stats.count_GK
    share_GK = weight_GK / count_GK.clamp(min=1e-12)
    gap_GK = mean_GK - stats.mean_GK
    squares_GK = weight_GK * variance_GK + stats.squares_GK + share_GK * stats.count_GK * gap_GK.square()
    shrunk_GK = stats.mean_GK + share_GK * gap_GK
    size_GK = torch.maximum(mean_GK.abs(), stats.mean_GK.abs())
    constant_GK = (squares_GK / count_GK.clamp(min=1e-12)).sqrt() <= ROUNDING * size_GK
    used_GK = (weight_GK > 0) & (stats.count_GK > 0)
    zero_variance_GK = torch.where(used_GK, constant_GK, stats.zero_variance_GK)
    rows = stats.groups.rows
    deviations_NK = torch.where(valid_NK & ~rows(zero_variance_GK), values_NK - rows(shrunk_GK), 0.0)
    return GroupStats(
        stats.groups,
        torch.where(used_GK, count_GK, stats.count_GK),
        torch.where(used_GK, shrunk_GK, stats.mean_GK),
        torch.where(used_GK, torch.where(constant_GK, 0.0, squares_GK), stats.squares_GK),
        zero_variance_GK,
        torch.where(rows(used_GK), deviations_NK, stats.deviations_NK),
    )
