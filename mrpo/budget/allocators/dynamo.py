"""DynaMO's allocation as released (arXiv 2602.19208; code GithubX-F/DynaMO-RL), its defects mended. ``N`` prompts.

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
from mrpo.budget.fill import Curve, proportional
from mrpo.budget.stats import IntArray, PromptStats
from mrpo.errors import ConfigError


@ALLOCATORS.register("dynamo")
def dynamo(
    stats: PromptStats,
    low_N: IntArray,
    power: float = 1.0,
    mastery: float = 0.85,
    floor: float = 0.01,
    initial: float = 4,
    above_low: bool = True,
) -> Curve:
    """n − low ∝ priority^power (``above_low=False``: n ∝ priority^power, clipped to the bounds).

    ``power=1`` is the release. If a rollout's gradient variance is the priority itself, that reaches exactly the total
    variance of the uniform allocation (Σ P/(c·P) = N²·P̄/B); ``power=0.5`` is Neyman's.
    """
    if not 0.5 <= power <= 1:
        raise ConfigError(f"budget.power: given {power}, allowed 0.5 (Neyman) to 1 (as released)")
    variance = np.where(stats.variance_N >= 0, stats.variance_N, np.nan)
    priority = np.maximum(variance + (1 - stats.mean_N) * 1e-6, floor)
    priority = np.where(stats.mean_N >= mastery, floor, priority)
    priority = np.where(stats.trials_N >= initial, priority, np.nan)
    curve = proportional(priority**power, low_N.astype(np.float64) if above_low else None)
    return Curve(curve.gain, curve.params, curve.level, wanted=initial - stats.trials_N)
