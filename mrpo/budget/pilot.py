"""Pilot-Commit over a whole step (arXiv 2605.26606, after its abstract): ``low`` rollouts of each prompt, and when all
of these are there, the rest of the step's total to the prompts whose pilot varies, and none to the others.

The pilot decides and counts, which biases: a prompt of a small success rate p goes on only if its pilot of l hits, and
then the pilot's mean is p / (1 - (1 - p)^l) on average, too high; the mean of all n rollouts, which is the baseline, is
too high by l/n of that excess. Hard prompts are given up by chance, too, as often as their pilots miss: (1 - p)^l.

Shapes: ``N`` rollouts, ``G`` prompt groups.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mrpo.budget.allocate import allocate
from mrpo.budget.stats import IntArray, PromptStats
from mrpo.config.allocators import PilotCommitBudget


def pilot_variance(reward_N: Sequence[float]) -> float:
    """The unbiased variance of a pilot's rewards. NaN ones, which failed or don't apply, aren't counted; of fewer than
    two it is NaN, unknown.

    >>> pilot_variance([1.0, 0.0, float("nan")]), pilot_variance([1.0, float("nan")])
    (0.5, nan)
    """
    scored = np.asarray(reward_N, dtype=np.float64)
    scored = scored[~np.isnan(scored)]
    return float(scored.var(ddof=1)) if len(scored) > 1 else float("nan")


def commit(variance_G: npt.ArrayLike, total: int, config: PilotCommitBudget) -> IntArray:
    """Rollouts of each prompt in all, its pilot of ``config.low`` included: int64[G].

    The sum is ``total``, unless all prompts that vary are at ``config.high``: what they can't hold is sampled for none.
    A prompt whose variance is unknown gets ``config.exploration`` rollouts, or as many as the mean.

    >>> commit([0.3, 0.0, 0.25, 0.0], total=24, config=PilotCommitBudget(low=3)).tolist()
    [9, 3, 9, 3]
    >>> commit([0.3, 0.0, 0.25, 0.0], total=24, config=PilotCommitBudget(low=3, high=8)).tolist()
    [8, 3, 8, 3]

    Args:
        variance_G: of each prompt's pilot.
        total: rollouts of these prompts; less than all pilots takes counts as these.
        config: bounds and threshold.
    """
    variance = np.asarray(variance_G, dtype=np.float64)
    total = max(total, config.low * len(variance))
    mean = total / max(1, len(variance)) if config.exploration is None else config.exploration
    unknown_high = int(np.clip(round(mean), config.low, config.high))
    varies = np.where(variance >= config.min_variance, config.high, config.low)
    high_G = np.where(np.isnan(variance), unknown_high, varies)
    stats = PromptStats(np.full(len(variance), config.low), np.full(len(variance), np.nan), variance)
    return allocate("pilot_commit", stats, min(total, int(high_G.sum())), config.low, high_G, **config.options())
