"""VIP: minimal variance of the estimator in use, RLOO or Dr.GRPO (arXiv 2602.01601). ``G`` prompts."""

from __future__ import annotations

import numpy as np

from mrpo.budget.allocators import ALLOCATORS
from mrpo.budget.greedy import MarginalGain, scaled
from mrpo.budget.stats import FloatArray, IntArray, PromptStats
from mrpo.config.allocators import VipBudget


@ALLOCATORS.register("vip")
def vip(stats: PromptStats, low_G: IntArray, config: VipBudget) -> MarginalGain:
    """Minimises Σ Var_i(n), with a = p(1 − p) (the factor 4σ² is common to all and drops out).

    ``rloo``: Var = a/(n − 1), exact; a group of one has no Var, hence low ≥ 2.
    ``dr_grpo``: Var = a(n − 1)/n². Convex from n = 3 on, and exact there. At n = 2 it isn't: the step 3 → 4 saves more
    than 2 → 3, which is therefore valued like it, and the result is within 37/36 of the optimum.
    """
    return MarginalGain(_rloo if config.estimator == "rloo" else _dr_grpo, (scaled(stats.variance_G),))


def _rloo(n: IntArray, a: FloatArray) -> FloatArray:
    """a/(n−1) − a/n."""
    return a / (n * (n - 1.0))


def _dr_grpo(n: IntArray, a: FloatArray) -> FloatArray:
    """a(n−1)/n² − a·n/(n+1)², and at n = 2 what it is at 3."""
    m = np.maximum(n, 3.0)
    gain = a * (m * m - m - 1) / (m * (m + 1)) ** 2
    return np.where(n < 3, gain * (1 + 1e-12), gain)
