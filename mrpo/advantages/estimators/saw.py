"""Each reward weighted by its coefficient of variation over the batch. SAW, arXiv 2606.07705.

CV_k = std_k / (|mean_k - r_min,k| + 1e-8)        omega_k = K CV_k / sum_l CV_l

omega multiplies the rewards (form grpo) or their separate advantages (form gdpo). r_min is the reward's declared lower
bound, 0 once it is mapped onto [0, 1].
"""

import torch

from mrpo.advantages.batch import RewardBatch
from mrpo.advantages.estimators import ESTIMATORS
from mrpo.advantages.group_norm import combine_and_normalize
from mrpo.advantages.result import Estimate
from mrpo.config.estimators import SawConfig


@ESTIMATORS.register("saw")
def saw(batch: RewardBatch) -> Estimate:
    weights_K = batch.weights_K * variation_weights(batch)
    if batch.options(SawConfig).form == "gdpo":
        return Estimate(weights_K * batch.component_advantages_NK, batch_norm="sequence")
    return Estimate(combine_and_normalize(batch, weights_K, std=True))


def variation_weights(batch: RewardBatch) -> torch.Tensor:
    """omega (K,): averages 1 over the rewards that count; 1 each if none varies."""
    variation_K = batch.batch_std_K / (batch.batch_mean_K.abs() + 1e-8)
    total, rewards = variation_K.sum(), (batch.weights_K != 0).sum()
    return rewards * variation_K / total if total > 0 else torch.ones_like(variation_K)
