"""Neyman's allocation, which DynaMO's theorem (arXiv 2602.19208) is. ``N`` prompts."""

from __future__ import annotations

import numpy as np

from mrpo.budget.allocators import ALLOCATORS
from mrpo.budget.fill import Curve, scaled
from mrpo.budget.stats import IntArray, PromptStats


@ALLOCATORS.register("neyman")
def neyman(stats: PromptStats, low_N: IntArray) -> Curve:
    """n ∝ σ: minimises Σ σ²/n exactly, in integers; gain σ²/n − σ²/(n+1), level n = σ/√λ.

    A prompt without a rollout has infinite variance, so with low = 0 everyone with σ > 0 is served once before anyone
    is served twice. σ² is ``stats.variance_N``; where it is 0 the prompt gets ``low``.
    """
    variance = scaled(stats.variance_N)
    return Curve(
        gain=lambda n, v, sigma: v / np.maximum(n * (n + 1.0), 1e-100),
        params=(variance, np.sqrt(variance)),
        level=lambda price, v, sigma: sigma / np.sqrt(price),
    )
