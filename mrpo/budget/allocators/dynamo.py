"""DynaMO's allocation as released (arXiv 2602.19208; code GithubX-F/DynaMO-RL), its defects mended. ``G`` prompts.

As released: a prompt with fewer than ``initial`` rollouts in all doesn't compete, it gets what it lacks; one whose mean
is at ``mastery`` or above has priority ``floor``; all others max(variance + (1 − mean)·1e-6, ``floor``). Everyone
starts at ``low`` and the rest is divided in proportion to the priority.

Mended: ``low`` and ``high`` hold always (the release breaks each in about 1 % of small cases); the rest is rounded
once, by Webster's divisors, not clipped and redistributed round after round; a total out of bounds is an error, not
clipped. Rows are the caller's to join by key (the release repeats uid and ground truth uniformly).
"""

from __future__ import annotations

import numpy as np

from mrpo.budget.allocators import ALLOCATORS
from mrpo.budget.greedy import MarginalGain, proportional
from mrpo.budget.stats import IntArray, PromptStats
from mrpo.config.allocators import DynamoBudget


@ALLOCATORS.register("dynamo")
def dynamo(stats: PromptStats, low_G: IntArray, config: DynamoBudget) -> MarginalGain:
    """n − low ∝ priority^power (``above_low=False``: n ∝ priority^power, clipped to the bounds).

    ``power=1`` is the release. If a rollout's gradient variance is the priority itself, that reaches exactly the total
    variance of the uniform allocation (Σ P/(c·P) = G²·P̄/B); ``power=0.5`` is Neyman's.
    """
    variance = np.where(stats.variance_G >= 0, stats.variance_G, np.nan)
    priority = np.maximum(variance + (1 - stats.mean_G) * 1e-6, config.floor)
    priority = np.where(stats.mean_G >= config.mastery, config.floor, priority)
    priority = np.where(stats.trials_G >= config.initial, priority, np.nan)
    base_G = low_G.astype(np.float64) if config.above_low else None
    return proportional(priority**config.power, base_G, wanted_G=config.initial - stats.trials_G)
