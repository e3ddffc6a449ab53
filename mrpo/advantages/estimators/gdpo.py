"""Each reward normalized in its group, weighted, summed, normalized over the batch. GDPO, arXiv 2601.05242, Eq. 4-7.

A_kj = (r_kj - mean_k) / (std_k + eps)        A_j = batch_norm(sum_k w_k A_kj)
"""

from mrpo.advantages.batch import RewardBatch
from mrpo.advantages.estimators import ESTIMATORS
from mrpo.advantages.result import Estimate


@ESTIMATORS.register("gdpo")
def gdpo(batch: RewardBatch) -> Estimate:
    return Estimate(batch.weights_K * batch.component_advantages_NK, batch_norm="sequence")
