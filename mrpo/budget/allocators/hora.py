"""Budget for coverage: the next rollout goes where it is most likely the first to hit. HORA, arXiv 2605.07114, after
its abstract; the formula is derived. ``G`` prompts.
"""

from __future__ import annotations

import numpy as np
from scipy.special import gammaln

from mrpo.budget.allocators import ALLOCATORS
from mrpo.budget.greedy import MarginalGain
from mrpo.budget.stats import FloatArray, IntArray, PromptStats
from mrpo.config.allocators import HoraBudget


@ALLOCATORS.register("hora")
def hora(stats: PromptStats, low_G: IntArray, config: HoraBudget) -> MarginalGain:
    """Maximises Σ P(at least one of n rollouts hits), for a success rate that is Beta(a, b). The n+1-th is the first to
    hit with

    Π_{i<n} (b+i)/(a+b+i) · a/(a+b+n),

    which falls with n, so the greedy answer is the exact optimum. a and b are those whose mean is ``stats.mean_G`` and
    whose E[p(1 − p)] is ``stats.variance_G`` (predictor ``beta`` has both); a larger variance says that p is known, and
    the gain is p(1 − p)ⁿ.
    """
    mean, known = stats.mean_G, stats.mean_G * (1 - stats.mean_G)
    with np.errstate(divide="ignore", invalid="ignore"):
        size = np.where(stats.variance_G < known * (1 - 1e-9), stats.variance_G / (known - stats.variance_G), np.inf)
    size = np.where(np.isfinite(stats.variance_G) & (stats.variance_G >= 0), size, np.nan)
    return MarginalGain(_gain, (np.where(np.isfinite(mean), mean, np.nan), size))


def _gain(n: IntArray, mean: FloatArray, size: FloatArray) -> FloatArray:
    sure = ~np.isfinite(size)
    s = np.where(sure, 1.0, size)
    a, b = mean * s, np.maximum((1 - mean) * s, 1e-300)
    with np.errstate(divide="ignore", invalid="ignore"):
        misses = np.exp(gammaln(b + n) - gammaln(b) + gammaln(s) - gammaln(s + n))
        return np.where(sure, mean * (1 - mean) ** n, misses * a / (s + n))
