"""The methods' closed forms: the real number of rollouts at which a prompt's gain falls to the multiplier λ."""

from __future__ import annotations

from typing import Any

import numpy as np

from mrpo.budget.stats import FloatArray


def level(method: str, options: dict[str, Any], weight: FloatArray, multiplier: float, base: float = 0) -> FloatArray:
    """``weight`` is the variance over its largest (neyman, vip) the rate (hora) or the share (the others)."""
    ratio = weight / multiplier
    if method == "neyman":
        return np.asarray(np.sqrt(ratio))
    if method == "vip" and options["estimator"] == "rloo":
        return np.asarray(1 + np.sqrt(ratio))
    if method == "vip":  # the largest root of λn³ = a(n − 2), by Viète's cosine; below a/λ = 28.8 n = 3 isn't worth it
        t = np.maximum(ratio, 28.8)
        root = 2 * np.sqrt(t / 3) * np.cos(np.arccos(-3 * np.sqrt(3 / t)) / 3)
        return np.where(weight >= 28.8 * multiplier, root, 2.0)
    if method == "hora":  # p(1 − p)ⁿ = λ, of a known rate
        return np.asarray(np.log(1 / ratio) / np.log1p(-weight))
    return np.asarray(ratio - 0.5 + base)
