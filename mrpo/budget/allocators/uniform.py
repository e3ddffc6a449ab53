"""The same number for everyone. ``N`` prompts."""

from __future__ import annotations

import numpy as np

from mrpo.budget.allocators import ALLOCATORS
from mrpo.budget.fill import Curve, proportional
from mrpo.budget.stats import IntArray, PromptStats


@ALLOCATORS.register("uniform")
def uniform(stats: PromptStats, low_N: IntArray) -> Curve:
    """n = total/N; what doesn't divide goes to the first."""
    return proportional(np.ones(len(stats)))
