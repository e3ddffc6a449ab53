"""GVM's allocation, with gradient norms (GVM-RAFT, arXiv 2505.02391). ``N`` prompts."""

from __future__ import annotations

import numpy as np

from mrpo.budget.allocators import ALLOCATORS
from mrpo.budget.fill import Curve, proportional
from mrpo.budget.stats import IntArray, PromptStats
from mrpo.errors import ConfigError


@ALLOCATORS.register("gvm")
def gvm(stats: PromptStats, low_N: IntArray, alpha: float = 1e-3, beta: float = 2.0) -> Curve:
    """n ∝ g/√(p + α/p^(β−1)), and ``low`` where p = 0 or g = 0.

    p is ``stats.mean_N``; g is ``stats.gradient_norm_N``, 1 for everyone if there is none.
    """
    p = stats.mean_N
    if ((p < 0) | (p > 1)).any():
        raise ConfigError("budget.signal: method gvm needs success rates in [0, 1]; allowed signal: bernoulli")
    norm = np.ones(len(stats)) if stats.gradient_norm_N is None else stats.gradient_norm_N
    solved = np.where(p > 0, p, 1.0)
    with np.errstate(over="ignore", divide="ignore"):
        weight = norm / np.sqrt(solved + alpha / solved ** (beta - 1))
    return proportional(np.where(np.isnan(p), np.nan, np.where(p > 0, weight, 0.0)))
