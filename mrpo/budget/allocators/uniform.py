"""The same number for everyone. ``G`` prompts."""

from __future__ import annotations

import numpy as np

from mrpo.budget.allocators import ALLOCATORS
from mrpo.budget.greedy import MarginalGain, proportional
from mrpo.budget.stats import IntArray, PromptStats
from mrpo.config.budget import BudgetConfig


@ALLOCATORS.register("uniform")
def uniform(stats: PromptStats, low_G: IntArray, config: BudgetConfig) -> MarginalGain:
    """n = total/G; what doesn't divide goes to the first."""
    return proportional(np.ones(len(stats)))
