"""A soft minimum over the rewards: none can buy what another one lacks. RVPO, arXiv 2605.05750.

A_j = batch_norm(-1/beta ln sum_k p_k exp(-beta A_kj))        p_k = w_k / sum_l w_l, over j's scores

Nearly the mean of the A_kj minus beta/2 times their variance. beta -> 0: their mean, which is GDPO; beta -> inf: their
minimum. A reward that doesn't vary in a group has A_kj = 0 there, and so holds back what the others praise.
"""

import torch

from mrpo.advantages.batch import RewardBatch
from mrpo.advantages.estimators import ESTIMATORS
from mrpo.advantages.result import Estimate
from mrpo.config.estimators import RvpoConfig


@ESTIMATORS.register("rvpo")
def rvpo(batch: RewardBatch) -> Estimate:
    beta, advantages_NK = batch.options(RvpoConfig).beta, batch.component_advantages_NK
    weights_NK = batch.weights_K * batch.valid_NK
    share_NK = weights_NK / torch.where(batch.scored_N, weights_NK.sum(dim=1), 1.0)[:, None]
    # Relative to the smallest, and by expm1 and log1p: no overflow, exactly 0 for zeros, and the mean for a small beta.
    smallest_N1 = advantages_NK.masked_fill(~batch.valid_NK, torch.inf).amin(dim=1, keepdim=True)
    above_NK = torch.where(batch.valid_NK, advantages_NK - smallest_N1, 0.0)
    soft_minimum_N1 = smallest_N1 - (share_NK * torch.expm1(-beta * above_NK)).sum(dim=1, keepdim=True).log1p() / beta
    # What each reward contributes: the soft minimum's gradient times its advantage, the rest in the same proportions.
    pull_NK = share_NK * torch.exp(-beta * above_NK)
    pull_NK = pull_NK / torch.where(batch.scored_N, pull_NK.sum(dim=1), 1.0)[:, None]
    rest_N1 = soft_minimum_N1 - (pull_NK * advantages_NK).sum(dim=1, keepdim=True)
    contributions_NK = pull_NK * (advantages_NK + rest_N1)
    return Estimate(contributions_NK.masked_fill(~batch.valid_NK, 0.0), batch_norm="sequence")
