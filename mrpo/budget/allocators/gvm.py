"""GVM's allocation (GVM-RAFT, arXiv 2505.02391) with all gradient norms equal. ``G`` prompts.

The paper's weight is g/√(p + α/p^(β−1)), g the norm of a prompt's mean score function. Training doesn't measure g (it
would take a backward pass a prompt), so g = 1 here, and what is left is the part that depends on the success rate.
"""

from __future__ import annotations

import numpy as np

from mrpo.budget.allocators import ALLOCATORS
from mrpo.budget.greedy import MarginalGain, proportional
from mrpo.budget.stats import IntArray, PromptStats
from mrpo.config.allocators import GvmBudget


@ALLOCATORS.register("gvm")
def gvm(stats: PromptStats, low_G: IntArray, config: GvmBudget) -> MarginalGain:
    """n ∝ 1/√(p + α/p^(β−1)), and ``low`` where p = 0. p is ``stats.mean_G``."""
    p = stats.mean_G
    solved = np.where(p > 0, p, 1.0)
    with np.errstate(over="ignore", divide="ignore"):
        weight = 1 / np.sqrt(solved + config.alpha / solved ** (config.beta - 1))
    return proportional(np.where(np.isnan(p), np.nan, np.where(p > 0, weight, 0.0)))
