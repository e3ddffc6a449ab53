"""What the budget did, in numbers to log. Shapes: ``N`` rollouts, ``G`` prompt groups.

| metric | meaning |
|---|---|
| budget/rollouts, budget/prompts | what was divided, over how many |
| budget/n/min, p10, median, p90, max | the allocation |
| budget/unknown_prompts | share of prompts whose worth was unknown before the step |
| budget/zero_signal | share of the groups whose rewards came out all equal |
| budget/zero_signal/uniform | what uniform groups would have been expected to waste, from the success rates before |
| budget/zero_signal/avoided | groups with a signal beyond what uniform was expected to have, from the same rates |
| budget/variance/predicted, realized | mean over prompts of the signal's variance: before the step, and in it |
| budget/variance/correlation | of the two, over prompts: is the history any good |
| budget/variance/gain | Σσ²/n over its value at uniform n, with the variances before the step; 1 gains nothing |
| budget/effective_sample_size | rollouts of equal weight that the 1/n-weighted mean is worth |
| budget/committed | pilot_commit: share of the prompts that got more than their pilot |
| budget/unspent | pilot_commit: rollouts of the step's total that no prompt was to get |
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mrpo.budget.stats import FloatArray, IntArray, PromptStats
from mrpo.budget.weights import effective_sample_size, rollout_weights
from mrpo.errors import ConfigError


def allocation_metrics(n_G: IntArray, stats: PromptStats) -> dict[str, float]:
    """What can be said before the rollouts: the histogram, and what the variances promise."""
    if len(n_G) != len(stats):
        raise ConfigError(f"allocation metrics: {len(n_G)} allocations for {len(stats)} prompts")
    if not len(n_G):
        return {"budget/rollouts": 0.0, "budget/prompts": 0.0}
    quantiles = np.quantile(n_G, [0, 0.1, 0.5, 0.9, 1])
    variance, uniform = stats.variance_G, n_G.sum() / len(n_G)
    known = ~np.isnan(variance) & (n_G > 0)
    metrics = {
        "budget/rollouts": float(n_G.sum()),
        "budget/prompts": float(len(n_G)),
        "budget/unknown_prompts": float(np.isnan(variance).mean()),
        "budget/effective_sample_size": effective_sample_size(rollout_weights(np.arange(len(n_G)).repeat(n_G))),
    }
    metrics |= {
        f"budget/n/{q}": float(v) for q, v in zip(("min", "p10", "median", "p90", "max"), quantiles, strict=True)
    }
    if (n_G[known] > 0).any() and variance[known].sum() > 0:
        share = n_G[known] / n_G[known].mean()
        metrics["budget/variance/gain"] = float((variance[known] / share).sum() / variance[known].sum())
    expected = mixed_chance(stats.mean_G, np.full(len(n_G), uniform))
    if not np.isnan(expected).all():
        metrics["budget/zero_signal/uniform"] = float(1 - np.nanmean(expected))
    return metrics


def outcome_metrics(n_G: IntArray, stats: PromptStats, group_N: IntArray, signal_N: FloatArray) -> dict[str, float]:
    """What came of it. ``group_N`` says which of the G prompts each rollout is of, ``signal_N`` what it earned."""
    scored = ~np.isnan(signal_N)
    prompt, signal = group_N[scored], signal_N[scored]
    count = np.bincount(prompt, minlength=len(n_G))
    mean = np.bincount(prompt, signal, minlength=len(n_G)) / np.maximum(count, 1)
    square = np.bincount(prompt, (signal - mean[prompt]) ** 2, minlength=len(n_G))
    smallest, largest = np.full(len(n_G), np.inf), np.full(len(n_G), -np.inf)
    np.minimum.at(smallest, prompt, signal)
    np.maximum.at(largest, prompt, signal)
    grouped = count > 0
    metrics: dict[str, float] = {}
    if grouped.any():
        metrics["budget/zero_signal"] = float((largest == smallest)[grouped].mean())
        expected = mixed_chance(stats.mean_G, np.full(len(n_G), n_G.mean()))
        both = grouped & ~np.isnan(expected)
        metrics["budget/zero_signal/avoided"] = float((largest > smallest)[both].sum() - expected[both].sum())
    known = (count > 1) & ~np.isnan(stats.variance_G)
    if known.any():
        realized, predicted = square[known] / (count[known] - 1), stats.variance_G[known]
        metrics["budget/variance/predicted"] = float(predicted.mean())
        metrics["budget/variance/realized"] = float(realized.mean())
        if known.sum() > 1 and np.ptp(realized) > 0 and np.ptp(predicted) > 0:
            metrics["budget/variance/correlation"] = float(np.corrcoef(predicted, realized)[0, 1])
    return metrics


def mixed_chance(rate_G: npt.ArrayLike, n_G: npt.ArrayLike) -> FloatArray:
    """Chance that n rollouts are neither all right nor all wrong: 1 − pⁿ − (1 − p)ⁿ; NaN if p isn't in [0, 1]."""
    p, n = np.asarray(rate_G, dtype=np.float64), np.asarray(n_G, dtype=np.float64)
    valid = (p >= 0) & (p <= 1)
    p = np.where(valid, p, np.nan)
    return np.where(n > 0, 1 - p**n - (1 - p) ** n, p * 0)
