"""The budget in the loop: plan each prompt's rollouts from history, and enter what they earned. Shapes: ``N``
rollouts, ``G`` prompt groups, ``K`` rewards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from mrpo.advantages import compute_advantages
from mrpo.budget.allocate import allocate
from mrpo.budget.history import PromptHistory
from mrpo.budget.ids import content_ids
from mrpo.budget.metrics import allocation_metrics, outcome_metrics
from mrpo.budget.pilot import commit
from mrpo.budget.signal import simulated
from mrpo.budget.stats import FloatArray, IntArray, PromptStats
from mrpo.budget.weights import rollout_weights
from mrpo.config.advantage import AdvantageConfig
from mrpo.config.allocators import PilotCommitBudget
from mrpo.config.budget import BudgetConfig
from mrpo.step.baseline import Baseline, totals
from mrpo.step.rollouts import Rollouts


def _advantages(rewards: AdvantageConfig, rewards_NK: FloatArray, group_N: IntArray) -> FloatArray:
    plain = rewards.with_options(batch_norm="none", truncated="keep")  # a simulated group knows no batch, and no limit
    return compute_advantages(torch.from_numpy(rewards_NK), torch.from_numpy(group_N), plain).advantages_N.numpy()


@dataclass
class BatchPlan:
    """What one batch has planned. It travels with the batch's step, and ends with it."""

    n_by_uid: dict[str, int] = field(default_factory=dict)
    """Rollouts of each prompt that was submitted and not thrown away."""
    stats: dict[str, PromptStats] = field(default_factory=dict)
    """What was known of each prompt when it was planned."""
    observed: set[str] = field(default_factory=set)
    """Prompts whose rollouts have come in."""
    submitted: int = 0
    """Prompts asked for, those that were thrown away included."""

    def drop_all_but(self, unfinished: set[str]) -> None:
        """Forget prompts that are neither in the queue nor observed: they were thrown away, and their rollouts go to
        the prompts that replace them, so that the step's total stays what it was."""
        for uid in self.n_by_uid.keys() - unfinished - self.observed:
            del self.n_by_uid[uid]


class RolloutBudget:
    """Owner of the prompt history. The total of a step is fixed before it; what is planned is in a ``BatchPlan``.

    Args:
        config: how rollouts are divided.
        rewards: what they are worth.
        prompts_per_step: that a step is trained on.
        rewards_at: the same in a step, where weights follow a schedule. A total in the history is of the weights of the
            step that it was observed in.
    """

    def __init__(
        self,
        config: BudgetConfig,
        rewards: AdvantageConfig,
        prompts_per_step: int,
        rewards_at: Callable[[int], AdvantageConfig] | None = None,
    ):
        self.config, self.rewards = config, rewards
        self.rewards_at = rewards_at or (lambda step: rewards)
        self.prompts_per_step = prompts_per_step
        self.history = PromptHistory(rewards.names, decay=config.decay)
        self.baseline = Baseline.of(rewards)

    def plan(self, plan: BatchPlan, uids: Sequence[str], step: int = 1) -> IntArray:
        """Enter prompts of ``step`` into ``plan``. Returns the rollouts of each, int64[G]."""
        stats = self._stats(uids, self.rewards_at(step))
        if self.config.has_pilot:
            n_G = np.full(len(uids), self.config.low)
        else:
            total = self._total(plan, uids, stats)
            options = self.config.options()
            n_G = allocate(self.config.method, stats, total, self.config.low, self.config.high, **options)
        plan.n_by_uid |= dict(zip(uids, n_G.tolist(), strict=True))
        plan.stats |= {uid: stats.take(np.array([i])) for i, uid in enumerate(uids)}
        return n_G

    def commit(self, plan: BatchPlan, variance_of: Mapping[str, float]) -> dict[str, int]:
        """Divide what is left of the step's total over prompts whose pilots are there, by the variance of these, and
        enter it into ``plan``. Returns how many rollouts more each gets."""
        assert isinstance(self.config, PilotCommitBudget)
        uids = [uid for uid in plan.n_by_uid if uid in variance_of]  # as they were submitted, whoever came in first
        others = sum(n for uid, n in plan.n_by_uid.items() if uid not in variance_of)
        left = self.config.total(self.prompts_per_step) - others
        n_G = commit([variance_of[uid] for uid in uids], left, self.config)
        more = {uid: n - plan.n_by_uid[uid] for uid, n in zip(uids, n_G.tolist(), strict=True)}
        plan.n_by_uid |= dict(zip(uids, n_G.tolist(), strict=True))
        return more

    def again(self, plan: BatchPlan, uids: Sequence[str]) -> list[int]:
        """Rollouts of prompts of ``plan`` that are sampled once more from the beginning: as many as they had, or their
        pilots, since their texts may differ."""
        if self.config.has_pilot:
            plan.n_by_uid |= dict.fromkeys(uids, self.config.low)
        return [plan.n_by_uid[uid] for uid in uids]

    def _stats(self, uids: Sequence[str], rewards: AdvantageConfig) -> PromptStats:
        stats = self.history.stats(
            content_ids(uids),
            signal=self.config.signal,
            predictor=self.config.predictor,
            prior=self.config.prior,
            weights_K=np.array([rewards.weight(name) for name in rewards.names]),
            estimator=simulated(partial(_advantages, rewards)),
            group_size=self.config.rollouts_per_prompt,
        )
        lengths_G = stats.response_length_G
        if lengths_G is None or np.isnan(lengths_G).all():  # no response seen yet: all count alike
            stats = replace(stats, response_length_G=np.ones(len(uids)))
        return stats

    def _total(self, plan: BatchPlan, uids: Sequence[str], stats: PromptStats) -> int:
        if self.config.unit == "tokens":
            assert stats.response_length_G is not None
            return self.config.total(len(uids), float(np.nanmean(stats.response_length_G)))
        step = self.config.total(self.prompts_per_step)
        waiting = self.prompts_per_step - len(plan.n_by_uid) - len(uids)  # prompts still to be planned in this step
        return step - sum(plan.n_by_uid.values()) - waiting * self.config.rollouts_per_prompt

    def observe(self, plan: BatchPlan, rollouts: Rollouts, advantages_N: torch.Tensor, step: int) -> dict[str, float]:
        """Enter a batch of rollouts into the history; returns the metrics of allocation and outcome.

        The outcome is measured in what the allocation was planned by (``signal``), so that it can be compared with it.
        """
        uids = [key.uid for key in rollouts.keys]
        if unplanned := set(uids) - plan.n_by_uid.keys():
            raise RuntimeError(f"rollouts of prompts that this step didn't plan: {sorted(unplanned)[:3]}")
        plan.observed |= set(uids)
        rewards_NK = rollouts.rewards_NK.numpy()
        total_N = totals(rollouts, self.rewards_at(step)).numpy()
        self.history.observe(content_ids(uids), rewards_NK, total_N, length_N=rollouts.lengths_N.numpy(), step=step)
        if self.baseline is not None:
            self.baseline.observe(rollouts, total_N, step, self.rewards_at(step))
        sizes = rollouts.group_sizes
        n_G = np.array(list(sizes.values()))
        stats = PromptStats.concatenate([plan.stats[uid] for uid in sizes])
        index = {uid: i for i, uid in enumerate(sizes)}
        group_N = np.array([index[uid] for uid in uids])
        if self.config.signal == "bernoulli":
            outcome_N = np.where(np.isnan(total_N), np.nan, total_N > 0)
        elif self.config.signal == "estimator":
            outcome_N = np.where(np.isnan(total_N), np.nan, advantages_N.double().numpy())
        else:
            outcome_N = total_N
        pilots = self._pilot_metrics(plan, n_G) if self.config.has_pilot else {}
        return allocation_metrics(n_G, stats) | outcome_metrics(n_G, stats, group_N, outcome_N) | pilots

    def _pilot_metrics(self, plan: BatchPlan, n_G: IntArray) -> dict[str, float]:
        unspent = self.config.total(self.prompts_per_step) - sum(plan.n_by_uid.values())
        return {"budget/committed": float((n_G > self.config.low).mean()), "budget/unspent": float(unspent)}

    def loss_weights(self, rollouts: Rollouts, masked_N: torch.Tensor) -> torch.Tensor:
        """Weight of each rollout in the loss: 1/n if asked for, so that all prompts count alike; else 1.

        n counts a prompt's selected rollouts but those in ``masked_N``; the others are in no loss.
        """
        weights_N = torch.ones(len(rollouts.keys), dtype=torch.float64)
        if self.config.reweight_by_n:
            selected_N = rollouts.selected_N & ~masked_N
            weights_N[selected_N] = torch.from_numpy(rollout_weights(rollouts.group_ids_N[selected_N].numpy()))
        return weights_N

    def state_dict(self) -> dict[str, Any]:
        baseline = {} if self.baseline is None else {"baseline": self.baseline.history.state_dict()}
        return {"history": self.history.state_dict(), **baseline}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.history.load_state_dict(state["history"])
        if self.baseline is not None and "baseline" in state:  # else a run that goes on with it begins without any
            self.baseline.history.load_state_dict(state["baseline"])
