"""The weighted sum, divided by what the rewards' correlation makes of its spread. CorrGRPO, arXiv 2609.36820.

form grpo:  A_j = (sum_k w_k r_kj - mean) / sqrt(max(sum_kl C_kl, floor) + 1e-6)    C: correlations in the group
form gdpo:  A_j = (sum_k w_k A_kj - mean) / sqrt(max(sum_kl C_kl, floor) + 1e-6)    C of w_k A_kj, mean: over the batch

A constant reward has neither row nor column in C. Rewards stay in their units: ten times the rewards, ten times the
advantages. Opposite rewards bring the sum of C to 0 and the released code to advantages of hundreds, hence the floor.
"""

import torch
from torch import Tensor

from mrpo.advantages.batch import RewardBatch
from mrpo.advantages.estimators import ESTIMATORS
from mrpo.advantages.group_norm import ROUNDING
from mrpo.advantages.groups import Groups, GroupStats, zero_variance_groups
from mrpo.advantages.result import Estimate
from mrpo.config.estimators import CorrGrpoConfig

EPS = 1e-6


@ESTIMATORS.register("corr_grpo")
def corr_grpo(batch: RewardBatch) -> Estimate:
    options = batch.options(CorrGrpoConfig)
    if options.form == "gdpo":
        return Estimate(_over_the_batch(batch, options.corr_floor))
    scale_G = (_correlation_sums(batch.stats).clamp(min=options.corr_floor) + EPS).sqrt()
    return Estimate(batch.weights_K * batch.stats.deviations_NK / batch.groups.rows(scale_G)[:, None])


def _over_the_batch(batch: RewardBatch, corr_floor: float) -> Tensor:
    """Centred over tokens where lengths are known (as released), else over rollouts."""
    parts_NK = batch.weights_K * batch.component_advantages_NK
    everyone = Groups(ids_G=batch.groups.index_N.new_zeros(1), index_N=torch.zeros_like(batch.groups.index_N))
    zero_variance_1K = zero_variance_groups(parts_NK, batch.valid_NK, everyone, ROUNDING)
    stats = GroupStats.of(parts_NK, batch.valid_NK, everyone, zero_variance_1K)
    scale_1 = (_correlation_sums(stats).clamp(min=corr_floor) + EPS).sqrt()
    counts_N = batch.scored_N.double() if batch.lengths_N is None else batch.lengths_N * batch.scored_N
    mean_K = (counts_N[:, None] * parts_NK).sum(dim=0) / counts_N.sum().clamp(min=1)
    return (parts_NK - mean_K) / scale_1


def _correlation_sums(stats: GroupStats) -> Tensor:
    """sum_kl C_kl per group. One reward at a time against all, so memory stays (N,K)."""
    norm_GK = stats.squares_GK.sqrt()
    unit_NK = (stats.deviations_NK / stats.groups.rows(norm_GK)).nan_to_num(nan=0.0)
    products = (stats.groups.sum(unit_NK[:, k, None] * unit_NK).sum(dim=1) for k in range(unit_NK.shape[1]))
    return torch.stack(list(products)).sum(dim=0)
