"""All that is left after a pilot to those prompts whose pilot varies, and none to the rest. Pilot-Commit, arXiv
2605.26606, after its abstract. ``G`` prompts.

In training the pilot is ``low`` rollouts of each of a step's prompts, and its variance what divides the step's total
(``mrpo.budget.pilot``). Here it is whatever variance is known.
"""

from __future__ import annotations

import numpy as np

from mrpo.budget.allocators import ALLOCATORS
from mrpo.budget.greedy import MarginalGain, proportional
from mrpo.budget.stats import IntArray, PromptStats
from mrpo.config.allocators import PilotCommitBudget


@ALLOCATORS.register("pilot_commit")
def pilot_commit(stats: PromptStats, low_G: IntArray, config: PilotCommitBudget) -> MarginalGain:
    """Even over the prompts whose variance is ``min_variance`` or more; the others get ``low``. What these can't hold
    is shared by all, as what no gain asks for always is."""
    variance = np.where(np.isfinite(stats.variance_G) & (stats.variance_G >= 0), stats.variance_G, np.nan)
    return proportional(np.where(np.isnan(variance), np.nan, variance >= config.min_variance))
