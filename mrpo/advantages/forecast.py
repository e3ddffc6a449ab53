"""Which rewards an update will raise: to first order those that covary with the advantage. CTWA, arXiv 2602.06869.

reward k rises iff Cov_j(r_kj, A_j) > 0 over the batch, A the advantages that the update uses

The law says it of any score, one of weight 0 included, and whatever the estimator: a reward may fall although its
weight is positive, since others push harder against it. Rollouts of one prompt aren't independent, so errors are taken
over prompt groups. Shapes: N rollouts, K rewards, G prompt groups, B bootstrap replicates.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mrpo.advantages.groups import Groups

CERTAIN = 2.0
"""A covariance of so many standard errors is a forecast; one of fewer may as well be chance."""
REPLICATES = 400


class Covariances(NamedTuple):
    """Of each reward with the advantage, and how certain that is."""

    covariance_K: Tensor
    """NaN where no rollout has a score."""
    errors_K: Tensor
    """The covariance in standard errors, over prompt groups; NaN where these can't tell."""
    products_GK: Tensor
    """Per group, the sum of its rollouts' products of deviations."""
    count_GK: Tensor
    """Per group, the rollouts with a score."""


def covariances(scores_NK: Tensor, advantages_N: Tensor, groups: Groups, keep_N: Tensor) -> Covariances:
    """Cov(r_k, A) over the rollouts in the loss that have a score of k.

    Args:
        scores_NK: the rewards as they came; NaN: missing.
        advantages_N: those that the update uses.
        groups: which rollouts answer the same prompt.
        keep_N: False: the rollout isn't in the loss.

    >>> scores_NK = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.5], [0.0, 0.5]]).double()
    >>> advantages_N = torch.tensor([1.0, -1.0, 1.0, -1.0]).double()
    >>> groups = Groups.of(torch.tensor([0, 0, 1, 1]))
    >>> covariances(scores_NK, advantages_N, groups, torch.ones(4, dtype=torch.bool)).covariance_K
    tensor([ 0.5000, -0.2500], dtype=torch.float64)
    """
    counted_NK = ~scores_NK.isnan() & keep_N[:, None]
    count_K = counted_NK.sum(dim=0)
    size_K = count_K.clamp(min=1)
    mean_K = scores_NK.masked_fill(~counted_NK, 0.0).sum(dim=0) / size_K
    advantages_NK = advantages_N.double()[:, None] * counted_NK
    centred_NK = torch.where(counted_NK, advantages_NK - advantages_NK.sum(dim=0) / size_K, 0.0)
    products_GK = groups.sum(torch.where(counted_NK, scores_NK - mean_K, 0.0) * centred_NK)
    count_GK = groups.sum(counted_NK.double())
    covariance_K = torch.where(count_K > 0, products_GK.sum(dim=0) / size_K, torch.nan)
    groups_K = (count_GK > 0).sum(dim=0)
    spread_K = (products_GK - covariance_K * count_GK).square().sum(dim=0)
    error_K = (spread_K * groups_K / (groups_K - 1).clamp(min=1)).sqrt() / size_K
    # Rounding of products that are all alike is no error.
    known_K = (groups_K > 1) & (error_K > 1e-12 * products_GK.abs().sum(dim=0) / size_K)
    return Covariances(covariance_K, torch.where(known_K, covariance_K / error_K, torch.nan), products_GK, count_GK)


def bootstrap(products_GX: Tensor, count_GX: Tensor, level: float = 0.95, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Lower and upper end (X,) of the interval that holds the covariance at ``level``, over draws of prompt groups with
    replacement (each group's number of draws is Poisson, as it is for many groups)."""
    generator, replicates = torch.Generator().manual_seed(seed), []
    chunk = max(1, min(REPLICATES, 10_000_000 // max(1, len(products_GX))))
    for start in range(0, REPLICATES, chunk):
        size = min(chunk, REPLICATES - start)
        draws_BG = torch.poisson(torch.ones(size, len(products_GX), dtype=products_GX.dtype), generator=generator)
        replicates.append((draws_BG @ products_GX) / (draws_BG @ count_GX).clamp(min=1))
    tail = (1 - level) / 2
    low_X, high_X = torch.cat(replicates).quantile(torch.tensor([tail, 1 - tail], dtype=products_GX.dtype), dim=0)
    return low_X, high_X


def direction(low: float, high: float) -> str:
    """What becomes of a reward whose covariance lies between these.

    >>> direction(0.1, 0.3), direction(-0.3, -0.1), direction(-0.1, 0.3)
    ('rises', 'falls', 'stays')
    """
    return "rises" if low > 0 else "falls" if high < 0 else "stays"
