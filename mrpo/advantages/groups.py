"""Statistics per prompt group in one sweep: scatter-adds over rows, no loop over rows or groups.

Shapes: N rollouts, K rewards, G prompt groups; ``X`` stands for any trailing shape.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Groups:
    """Which group each row belongs to, groups numbered 0..G-1 by ascending id. Rows may come in any order."""

    ids_G: Tensor
    index_N: Tensor

    @classmethod
    def of(cls, group_ids_N: Tensor) -> Groups:
        ids_G, index_N = torch.unique(group_ids_N, return_inverse=True)
        return cls(ids_G, index_N)

    def __len__(self) -> int:
        return len(self.ids_G)

    def sum(self, values_NX: Tensor) -> Tensor:
        return values_NX.new_zeros(len(self), *values_NX.shape[1:]).index_add_(0, self.index_N, values_NX)

    def amax(self, values_NX: Tensor) -> Tensor:
        start_GX = values_NX.new_full((len(self), *values_NX.shape[1:]), -torch.inf)
        index_NX = self.index_N.reshape(-1, *[1] * (values_NX.ndim - 1)).expand_as(values_NX)
        return start_GX.scatter_reduce_(0, index_NX, values_NX, "amax")

    def amin(self, values_NX: Tensor) -> Tensor:
        return -self.amax(-values_NX)

    def rows(self, values_GX: Tensor) -> Tensor:
        """Each row's group value."""
        return values_GX.index_select(0, self.index_N)


def zero_variance_groups(values_NK: Tensor, valid_NK: Tensor, groups: Groups, rounding: float) -> Tensor:
    """True (G,K) where fewer than two entries are valid or max == min, up to ``rounding`` relative to their size.

    The standard deviation is no test: the mean of equal floats may differ from all of them."""
    count_GK = groups.sum(valid_NK.to(values_NK.dtype))
    high_GK = groups.amax(values_NK.masked_fill(~valid_NK, -torch.inf))
    low_GK = groups.amin(values_NK.masked_fill(~valid_NK, torch.inf))
    return (count_GK < 2) | (high_GK - low_GK <= rounding * torch.maximum(high_GK.abs(), low_GK.abs()))


@dataclass(frozen=True)
class GroupStats:
    """Moments of each column in each group over its valid entries. Columns without a valid entry have mean 0."""

    groups: Groups
    count_GK: Tensor
    mean_GK: Tensor
    squares_GK: Tensor
    """Sum of squared deviations from the mean; exactly 0 where all are equal."""
    zero_variance_GK: Tensor
    deviations_NK: Tensor
    """Entry minus its group's mean; exactly 0 where missing or all are equal."""

    @classmethod
    def of(cls, values_NK: Tensor, valid_NK: Tensor, groups: Groups, zero_variance_GK: Tensor) -> GroupStats:
        count_GK = groups.sum(valid_NK.to(values_NK.dtype))
        mean_GK = groups.sum(values_NK.masked_fill(~valid_NK, 0.0)) / count_GK.clamp(min=1)
        counts_NK = valid_NK & ~groups.rows(zero_variance_GK)
        deviations_NK = torch.where(counts_NK, values_NK - groups.rows(mean_GK), 0.0)
        return cls(groups, count_GK, mean_GK, groups.sum(deviations_NK.square()), zero_variance_GK, deviations_NK)

    def std_GK(self, ddof: int) -> Tensor:
        """Standard deviation with ``ddof`` degrees of freedom taken off; 0 where all are equal."""
        return (self.squares_GK / (self.count_GK - ddof).clamp(min=1)).sqrt()
