"""What prompts have earned so far, as the estimator counts it: what ``algorithm.shrinkage`` leans on. Shapes: ``N``
rollouts, ``K`` rewards, ``C`` columns (the rewards, then their total).
"""

from __future__ import annotations

import torch

from mrpo.advantages import GroupHistory
from mrpo.advantages.conditioning import condition_rewards
from mrpo.advantages.groups import Groups
from mrpo.budget.history import PromptHistory
from mrpo.budget.ids import content_ids
from mrpo.budget.stats import FloatArray
from mrpo.config.advantage import AdvantageConfig
from mrpo.config.estimators import ShrinkageConfig
from mrpo.step.rollouts import Rollouts


def totals(rollouts: Rollouts, rewards: AdvantageConfig) -> torch.Tensor:
    """What each rollout's rewards come to together, float64[N]: the weighted sum that GRPO compares within a group.

    A reward that isn't applicable to any rollout of a group is left out there; a score that is missing beside others
    stands at their mean. NaN for a rollout without any score.
    """
    weights_K = torch.tensor([reward.weight for reward in rewards.rewards], dtype=torch.float64)
    scores_NK = condition_rewards(rollouts.rewards_NK, rewards.names, rewards.conditions, rewards.ranges)
    valid_NK = ~scores_NK.isnan() & (weights_K > 0)
    groups = Groups.of(rollouts.group_ids_N)
    count_GK = groups.sum(valid_NK.double()).clamp(min=1)
    mean_GK = groups.sum(scores_NK.masked_fill(~valid_NK, 0.0)) / count_GK
    total_N = (weights_K * torch.where(valid_NK, scores_NK, groups.rows(mean_GK))).sum(dim=1)
    return total_N.masked_fill(~valid_NK.any(dim=1), torch.nan)


class Baseline:
    """Owner of that history. Unlike the budget's, it holds rewards after their conditions, as groups are compared."""

    def __init__(self, config: ShrinkageConfig, rewards: AdvantageConfig):
        self.config = config
        self.history = PromptHistory(rewards.names, decay=config.decay)

    @classmethod
    def of(cls, rewards: AdvantageConfig) -> Baseline | None:
        """None: the estimator compares a group's rollouts with each other alone."""
        config = rewards.algorithm.shrinkage
        return None if config is None else cls(config, rewards)

    def known(self, rollouts: Rollouts) -> GroupHistory:
        """What the rollouts' prompts had earned before, a row a group in the order of its id."""
        uids = list(dict.fromkeys(key.uid for key in rollouts.keys))  # groups are numbered in this order
        found = self.history.evidence(content_ids(uids), self.config.predictor)
        columns = found.trials_GC, found.mean_GC, found.variance_GC
        return GroupHistory(*(torch.from_numpy(column) for column in columns))

    def observe(self, rollouts: Rollouts, total_N: FloatArray, step: int, rewards: AdvantageConfig) -> None:
        """Enter what a step's rollouts earned by its ``rewards``, after their advantages were computed."""
        scores_NK = condition_rewards(rollouts.rewards_NK, rewards.names, rewards.conditions, rewards.ranges)
        uids = [key.uid for key in rollouts.keys]
        self.history.observe(content_ids(uids), scores_NK.numpy(), total_N, step=step)
