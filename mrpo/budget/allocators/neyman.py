"""Neyman's allocation, which DynaMO's theorem (arXiv 2602.19208) is. ``G`` prompts."""

from __future__ import annotations

import numpy as np

from mrpo.budget.allocators import ALLOCATORS
from mrpo.budget.greedy import MarginalGain, scaled
from mrpo.budget.stats import IntArray, PromptStats
from mrpo.config.budget import BudgetConfig


@ALLOCATORS.register("neyman")
def neyman(stats: PromptStats, low_G: IntArray, config: BudgetConfig) -> MarginalGain:
    """n ∝ σ: minimises Σ σ²/n exactly, in integers; the gain is σ²/n − σ²/(n+1).

    A prompt without a rollout has infinite variance, so with low = 0 everyone with σ > 0 is served once before anyone
    is served twice. σ² is ``stats.variance_G``; where it is 0 the prompt gets ``low``.
    """
    return MarginalGain(lambda n, variance: variance / np.maximum(n * (n + 1.0), 1e-100), (scaled(stats.variance_G),))
