"""Weights that undo unequal numbers of rollouts. Shapes: ``R`` rollouts, ``N`` prompts.

Which loss is unbiased for what, when n_i rollouts of prompt i are decided before they are sampled and
g_ij = (r_ij − b_i) ∇ log π(y_ij) with a leave-one-out baseline b_i:

* mean over rollouts of ``rollout_weights`` · g_ij = mean over prompts of their means. Unbiased for the gradient of the
  mean reward over prompts, whatever the n_i; its variance is Σ σ_i²/n_i / N², which ``neyman`` and ``vip`` minimise.
* plain mean over rollouts. Unbiased for Σ (n_i/B) J_i: an objective that dwells on the prompts that got more. A
  curriculum, perhaps a good one, but its variance Σ n_i σ_i² / B² is least where *low* variance prompts get more.
* mean over tokens. Weighs a rollout by its length on top; unbiased for neither.

A baseline that includes the rollout itself (the group mean: GRPO, Dr.GRPO) shrinks a prompt's gradient by (n − 1)/n, so
small groups count less even then; ``shrinkage=True`` undoes it. Dividing by the group's std is biased for any n.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mrpo.budget.stats import FloatArray
from mrpo.errors import ConfigError


def rollout_weights(prompt_R: npt.ArrayLike, shrinkage: bool = False) -> FloatArray:
    """Weight of each rollout, R/(N·n), so that all prompts weigh the same and the weights' mean is 1.

    ``prompt_R`` says whose each rollout is, rows in any order. With ``shrinkage``, weights are multiplied by n/(n − 1)
    (a lone rollout by 1: its own mean leaves it no gradient to mend); their mean is then above 1.
    """
    prompts, index, n = np.unique(np.asarray(prompt_R), return_inverse=True, return_counts=True)
    weight = len(index) / (len(prompts) * n) if len(prompts) else np.ones(0)
    if shrinkage:
        weight = weight * n / np.maximum(n - 1, 1)
    return np.asarray(weight[index], dtype=np.float64)


def effective_sample_size(weight_R: npt.ArrayLike) -> float:
    """Rollouts of equal weight that would average as well: (Σw)²/Σw² (Kish)."""
    weight = np.asarray(weight_R, dtype=np.float64)
    if (weight < 0).any():
        raise ConfigError(f"effective sample size: a weight of {weight.min()}, allowed 0 or more")
    return float(weight.sum() ** 2 / (weight**2).sum()) if weight.any() else 0.0
