"""The outcome compared among all rollouts, the other rewards among the correct ones only. PAPO, arXiv 2603.26535.

A_j = w_out A_out,j + sum_(k != out) w_k A_k,j        A_k normalized over the group's correct rollouts, 0 for the others

A rollout is correct if its outcome reaches ``outcome_threshold``. Fewer than two correct: the outcome decides alone.
"""

import torch

from mrpo.advantages.batch import RewardBatch
from mrpo.advantages.estimators import ESTIMATORS
from mrpo.advantages.group_norm import group_normalize
from mrpo.advantages.result import Estimate
from mrpo.config.estimators import PapoConfig


@ESTIMATORS.register("papo")
def papo(batch: RewardBatch) -> Estimate:
    options = batch.options(PapoConfig)
    outcome = batch.column(options.outcome or batch.config.names[0])
    correct_N = batch.given_NK[:, outcome] >= options.outcome_threshold
    among_correct = batch.stats_among(batch.valid_NK & correct_N[:, None])
    # Raw values of 0: a preset's convention for groups of one is about prompts, not about a lone correct rollout.
    raw_NK = torch.zeros_like(batch.rewards_NK)
    advantages_NK = group_normalize(raw_NK, among_correct, batch.conventions, ddof=batch.ddof)
    advantages_NK[:, outcome] = batch.component_advantages_NK[:, outcome]
    return Estimate(batch.weights_K * advantages_NK)
