"""GDPO in which a reward fades as it saturates. SA-MRPO, arXiv 2608.16072.

s_k = clip((mean_k - r_min,k) / (r_max,k - r_min,k), 0, 1) over the batch
A_j = batch_norm(sum_k w_k (1 - s_k)^gamma A_kj)

gamma = 0 is GDPO. A reward at its upper bound everywhere has weight 0.
"""

from mrpo.advantages.batch import RewardBatch
from mrpo.advantages.estimators import ESTIMATORS
from mrpo.advantages.result import Estimate
from mrpo.config.estimators import SaMrpoConfig


@ESTIMATORS.register("sa_mrpo")
def sa_mrpo(batch: RewardBatch) -> Estimate:
    saturation_K = batch.batch_mean_K.clamp(0, 1)
    weights_K = batch.weights_K * (1 - saturation_K) ** batch.options(SaMrpoConfig).gamma
    return Estimate(weights_K * batch.component_advantages_NK, batch_norm="sequence")
