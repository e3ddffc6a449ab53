"""Knapsack RL's value, maximised exactly (arXiv 2509.25849). ``N`` prompts."""

from __future__ import annotations

import numpy as np

from mrpo.budget.allocators import ALLOCATORS
from mrpo.budget.fill import Curve
from mrpo.budget.stats import FloatArray, IntArray, PromptStats
from mrpo.errors import ConfigError


@ALLOCATORS.register("knapsack")
def knapsack(stats: PromptStats, low_N: IntArray) -> Curve:
    """Maximises Σ (1 − pⁿ − qⁿ)·p·q², the chance of a mixed group times how much the prompt may still gain; q = 1 − p.

    Concave for n ≥ 1: the gain of one more, (pⁿq + qⁿp)·p·q², falls with n. So the greedy answer is the exact optimum
    and no table over budgets is needed. From 0 on it isn't concave (one rollout alone is worth nothing): hence low ≥ 1.
    p is ``stats.mean_N``. p = 0 and p = 1 are worth nothing: they get ``low``, and the surplus if there is one.
    """
    if (low_N < 1).any():
        raise ConfigError(f"budget.low: given {low_N.min()}, allowed 1 or more with method knapsack")
    p = np.where(np.isfinite(stats.mean_N), stats.mean_N, np.nan)
    if ((p < 0) | (p > 1)).any():
        raise ConfigError("budget.signal: method knapsack needs success rates in [0, 1]; allowed signal: bernoulli")
    p = np.where(np.isfinite(stats.variance_N) & (stats.variance_N < 0), np.nan, p)
    with np.errstate(divide="ignore"):
        return Curve(_gain, (p, np.log(p), np.log1p(-p)))


def _gain(n: IntArray, p: FloatArray, log_p: FloatArray, log_q: FloatArray) -> FloatArray:
    q = 1 - p
    return (np.exp(n * log_p) * q + np.exp(n * log_q) * p) * p * q * q
