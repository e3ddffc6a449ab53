"""Knapsack RL's value, maximised exactly (arXiv 2509.25849). ``G`` prompts."""

from __future__ import annotations

import numpy as np

from mrpo.budget.allocators import ALLOCATORS
from mrpo.budget.greedy import MarginalGain
from mrpo.budget.stats import FloatArray, IntArray, PromptStats
from mrpo.config.allocators import KnapsackBudget


@ALLOCATORS.register("knapsack")
def knapsack(stats: PromptStats, low_G: IntArray, config: KnapsackBudget) -> MarginalGain:
    """Maximises Σ (1 − pⁿ − qⁿ)·p·q², the chance of a mixed group times how much the prompt may still gain; q = 1 − p.

    Concave for n ≥ 1: the gain of one more, (pⁿq + qⁿp)·p·q², falls with n. So the greedy answer is the exact optimum
    and no table over budgets is needed. From 0 on it isn't concave (one rollout alone is worth nothing): hence low ≥ 1.
    p is ``stats.mean_G``. p = 0 and p = 1 are worth nothing: they get ``low``, and the surplus if there is one.
    """
    p = np.where(np.isfinite(stats.mean_G), stats.mean_G, np.nan)
    p = np.where(np.isfinite(stats.variance_G) & (stats.variance_G < 0), np.nan, p)
    with np.errstate(divide="ignore"):
        return MarginalGain(_gain, (p, np.log(p), np.log1p(-p)))


def _gain(n: IntArray, p: FloatArray, log_p: FloatArray, log_q: FloatArray) -> FloatArray:
    q = 1 - p
    return (np.exp(n * log_p) * q + np.exp(n * log_q) * p) * p * q * q
