"""Each reward normalized in its group, weighted, summed. MO-GRPO (arXiv 2509.22047): GDPO without batch norm.

A_j = sum_k w_k (r_kj - mean_k) / (std_k + eps)
"""

from mrpo.advantages.batch import RewardBatch
from mrpo.advantages.estimators import ESTIMATORS
from mrpo.advantages.result import Estimate


@ESTIMATORS.register("advantage_combination")
def advantage_combination(batch: RewardBatch) -> Estimate:
    return Estimate(batch.weights_K * batch.component_advantages_NK)
