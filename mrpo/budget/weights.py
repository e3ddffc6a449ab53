"""Weights that undo unequal numbers of rollouts. Shapes: ``N`` rollouts, ``G`` prompt groups.

Which loss is unbiased for what, when n_i rollouts of prompt i are decided before they are sampled and
g_ij = (r_ij − b_i) ∇ log π(y_ij) with a leave-one-out baseline b_i:

* mean over rollouts of ``rollout_weights`` · g_ij = mean over prompts of their means. Unbiased for the gradient of the
  mean reward over prompts, whatever the n_i; its variance is Σ σ_i²/n_i / G², which ``neyman`` and ``vip`` minimise.
* plain mean over rollouts. Unbiased for Σ (n_i/B) J_i: an objective that dwells on the prompts that got more. A
  curriculum, perhaps a good one, but its variance Σ n_i σ_i² / B² is least where *low* variance prompts get more.
* mean over tokens. Weighs a rollout by its length on top; unbiased for neither.

A baseline that includes the rollout itself (the group mean: GRPO, Dr.GRPO) shrinks a prompt's gradient by (n − 1)/n, so
small groups count less even then; a further factor n/(n − 1) undoes it. Dividing by the group's std is biased for any
n.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mrpo.budget.stats import FloatArray
from mrpo.errors import ConfigError


def rollout_weights(prompt_N: npt.ArrayLike) -> FloatArray:
    """Weight of each rollout, N/(G·n), so that all prompts weigh the same and the weights' mean is 1.

    ``prompt_N`` says whose each rollout is, rows in any order.

    >>> rollout_weights([7, 7, 7, 4]).round(3).tolist()
    [0.667, 0.667, 0.667, 2.0]
    """
    prompts, index, n = np.unique(np.asarray(prompt_N), return_inverse=True, return_counts=True)
    weight = len(index) / (len(prompts) * n) if len(prompts) else np.ones(0)
    return np.asarray(weight[index], dtype=np.float64)


def effective_sample_size(weight_N: npt.ArrayLike) -> float:
    """Rollouts of equal weight that would average as well: (Σw)²/Σw² (Kish)."""
    weight = np.asarray(weight_N, dtype=np.float64)
    if (weight < 0).any():
        raise ConfigError(f"effective sample size: a weight of {weight.min()}, allowed 0 or more")
    return float(weight.sum() ** 2 / (weight**2).sum()) if weight.any() else 0.0
