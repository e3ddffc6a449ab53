"""The outcome compared among all rollouts, the other rewards among the correct ones only. PAPO, arXiv 2603.26535.

A_j = w_out A_out,j + sum_(k != out) w_k A_k,j        A_k normalized over the group's correct rollouts, 0 for the others

A rollout is correct if its outcome reaches ``outcome_threshold``. Fewer than two correct: the outcome decides alone.
"""

import torch

from mrpo.advantages.batch import RewardBatch
from mrpo.advantages.estimators import ESTIMATORS
from mrpo.advantages.group_norm import group_normalize
from mrpo.advantages.result import Estimate


@ESTIMATORS.register("papo")
def papo(batch: RewardBatch) -> Estimate:
    config = batch.config
    outcome = batch.column(config.outcome or config.names[0])
    correct_N = batch.given_NK[:, outcome] >= config.outcome_threshold
    among_correct = batch.stats_among(batch.valid_NK & correct_N[:, None])
    # Raw values of 0, since a preset's habit with groups of one means prompts, not a lone correct rollout.
    advantages_NK = group_normalize(torch.zeros_like(batch.rewards_NK), among_correct, batch.habits, ddof=config.ddof)
    advantages_NK[:, outcome] = batch.component_advantages_NK[:, outcome]
    return Estimate(batch.weights_K * advantages_NK)
