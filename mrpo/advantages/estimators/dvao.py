"""Each reward weighted by how much it varies among a prompt's rollouts. DVAO, arXiv 2605.25604.

A_j = sum_k w_k (r_kj - mean_k) / sum_l w_l s_l        s_k: population std of reward k in the group

Equal to GRPO's advantage times kappa = std(R) / sum_l w_l s_l <= 1: the more the rewards conflict, the smaller. It
depends on the rewards' scale, and takes a scorer's noise for something to learn. With a reward's noise variance v_k
known, w_k becomes w_k sqrt(rho_k), so that s_k sqrt(rho_k), the spread that isn't noise, is what weighs:

rho_k = max(0, 1 - v_k / variance of reward k within groups, over the batch)
"""

import torch
from torch import Tensor

from mrpo.advantages.batch import RewardBatch
from mrpo.advantages.estimators import ESTIMATORS
from mrpo.advantages.result import Estimate


@ESTIMATORS.register("dvao")
def dvao(batch: RewardBatch) -> Estimate:
    weights_K = batch.weights_K * _reliability(batch).sqrt()
    total_G = (weights_K * batch.stats.std_GK(ddof=0)).sum(dim=1)
    scale_G = torch.where(total_G > 0, 1 / total_G, 0.0)
    contributions_NK = weights_K * batch.stats.deviations_NK * batch.groups.rows(scale_G)[:, None]
    kappa_G = _root_mean_square(batch, contributions_NK.sum(dim=1))
    informative_G = total_G > 0
    kappa = {"advantage/dvao_kappa": float(kappa_G[informative_G].mean())} if bool(informative_G.any()) else {}
    return Estimate(contributions_NK, diagnostics=kappa)


def _reliability(batch: RewardBatch) -> Tensor:
    """rho (K,). Pooled over the batch: from one group's few rollouts, what is left of a variance is mostly chance."""
    freedom_K = (batch.stats.count_GK - 1).clamp(min=0).sum(dim=0)
    variance_K = batch.stats.squares_GK.sum(dim=0) / freedom_K.clamp(min=1)
    return torch.where(variance_K > 0, 1 - batch.noise_variance_K / variance_K, 1.0).clamp(min=0)


def _root_mean_square(batch: RewardBatch, advantages_N: Tensor) -> Tensor:
    """Per group, over its scored rollouts. GRPO's advantage (population std) has 1, so this is kappa."""
    size_G = batch.groups.sum(batch.scored_N.double()).clamp(min=1)
    return (batch.groups.sum(advantages_N.square()) / size_G).sqrt()
