"""VIP: minimal variance of the estimator in use, RLOO or Dr.GRPO (arXiv 2602.01601). ``N`` prompts."""

from __future__ import annotations

import numpy as np

from mrpo.budget.allocators import ALLOCATORS
from mrpo.budget.fill import Curve, scaled
from mrpo.budget.stats import FloatArray, IntArray, PromptStats
from mrpo.errors import ConfigError


@ALLOCATORS.register("vip")
def vip(stats: PromptStats, low_N: IntArray, estimator: str = "rloo") -> Curve:
    """Minimises Σ Var_i(n), with a = p(1 − p) (the factor 4σ² is common to all and drops out).

    ``rloo``: Var = a/(n − 1), exact; needs low ≥ 2.
    ``dr_grpo``: Var = a(n − 1)/n². Convex from n = 3 on, and exact there. At n = 2 it isn't: the step 3 → 4 saves more
    than 2 → 3, which is therefore valued like it, and the result is within 37/36 of the optimum.
    """
    curves = {"rloo": (_rloo_gain, _rloo_level), "dr_grpo": (_dr_grpo_gain, _dr_grpo_level)}
    if estimator not in curves:
        raise ConfigError(f"budget.estimator: given {estimator!r}, allowed {', '.join(sorted(curves))}")
    if (low_N < 2).any():
        raise ConfigError(
            f"budget.low: given {low_N.min()}, allowed 2 or more with method vip (a group of 1 has no Var)"
        )
    gain, level = curves[estimator]
    return Curve(gain, (scaled(stats.variance_N),), level)


def _rloo_gain(n: IntArray, a: FloatArray) -> FloatArray:
    """a/(n−1) − a/n."""
    return a / (n * (n - 1.0))


def _rloo_level(price: float, a: FloatArray) -> FloatArray:
    return 1 + np.sqrt(a / price)


def _dr_grpo_gain(n: IntArray, a: FloatArray) -> FloatArray:
    """a(n−1)/n² − a·n/(n+1)², and at n = 2 what it is at 3."""
    m = np.maximum(n, 3.0)
    gain = a * (m * m - m - 1) / (m * (m + 1)) ** 2
    return np.where(n < 3, gain * (1 + 1e-12), gain)


def _dr_grpo_level(price: float, a: FloatArray) -> FloatArray:
    """Largest root of price·n³ = a(n − 2), by Viète's cosine; below a/price = 28.8 even n = 3 isn't worth it."""
    t = np.maximum(a / price, 28.8)
    root = 2 * np.sqrt(t / 3) * np.cos(np.arccos(-3 * np.sqrt(3 / t)) / 3)
    return np.where(a >= 28.8 * price, root, 2.0)
