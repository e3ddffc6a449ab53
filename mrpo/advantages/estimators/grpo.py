"""Reward combination: one weighted sum, normalized in its group. GRPO; without std, Dr.GRPO (arXiv 2503.20783).

R_j = sum_k w_k r_kj        A_j = (R_j - mean R) / (std R + eps)
"""

from mrpo.advantages.batch import RewardBatch
from mrpo.advantages.estimators import ESTIMATORS
from mrpo.advantages.group_norm import combine_and_normalize
from mrpo.advantages.result import Estimate
from mrpo.config.estimators import GrpoConfig


@ESTIMATORS.register("grpo")
def grpo(batch: RewardBatch) -> Estimate:
    return Estimate(combine_and_normalize(batch, batch.weights_K, std=batch.options(GrpoConfig).std))
