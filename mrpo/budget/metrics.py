"""What the budget did, in numbers to log. Shapes: ``N`` prompts, ``R`` rollouts.

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
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mrpo.budget.stats import FloatArray, IntArray, PromptStats
from mrpo.budget.weights import effective_sample_size, rollout_weights
from mrpo.errors import ConfigError


def allocation_metrics(n_N: IntArray, stats: PromptStats) -> dict[str, float]:
    """What can be said before the rollouts: the histogram, and what the variances promise."""
    if len(n_N) != len(stats):
        raise ConfigError(f"allocation metrics: {len(n_N)} allocations for {len(stats)} prompts")
    if not len(n_N):
        return {"budget/rollouts": 0.0, "budget/prompts": 0.0}
    quantiles = np.quantile(n_N, [0, 0.1, 0.5, 0.9, 1])
    variance, uniform = stats.variance_N, n_N.sum() / len(n_N)
    known = ~np.isnan(variance) & (n_N > 0)
    metrics = {
        "budget/rollouts": float(n_N.sum()),
        "budget/prompts": float(len(n_N)),
        "budget/unknown_prompts": float(np.isnan(variance).mean()),
        "budget/effective_sample_size": effective_sample_size(rollout_weights(np.arange(len(n_N)).repeat(n_N))),
    }
    metrics |= {
        f"budget/n/{q}": float(v) for q, v in zip(("min", "p10", "median", "p90", "max"), quantiles, strict=True)
    }
    if (n_N[known] > 0).any() and variance[known].sum() > 0:
        share = n_N[known] / n_N[known].mean()
        metrics["budget/variance/gain"] = float((variance[known] / share).sum() / variance[known].sum())
    expected = mixed_chance(stats.mean_N, np.full(len(n_N), uniform))
    if not np.isnan(expected).all():
        metrics["budget/zero_signal/uniform"] = float(1 - np.nanmean(expected))
    return metrics


def outcome_metrics(n_N: IntArray, stats: PromptStats, prompt_R: IntArray, signal_R: FloatArray) -> dict[str, float]:
    """What came of it. ``prompt_R`` says which of the N prompts each rollout is of, ``signal_R`` what it earned."""
    scored = ~np.isnan(signal_R)
    prompt, signal = prompt_R[scored], signal_R[scored]
    count = np.bincount(prompt, minlength=len(n_N))
    mean = np.bincount(prompt, signal, minlength=len(n_N)) / np.maximum(count, 1)
    square = np.bincount(prompt, (signal - mean[prompt]) ** 2, minlength=len(n_N))
    least, most = np.full(len(n_N), np.inf), np.full(len(n_N), -np.inf)
    np.minimum.at(least, prompt, signal)
    np.maximum.at(most, prompt, signal)
    grouped = count > 0
    metrics: dict[str, float] = {}
    if grouped.any():
        metrics["budget/zero_signal"] = float((most == least)[grouped].mean())
        expected = mixed_chance(stats.mean_N, np.full(len(n_N), n_N.mean()))
        both = grouped & ~np.isnan(expected)
        metrics["budget/zero_signal/avoided"] = float((most > least)[both].sum() - expected[both].sum())
    known = (count > 1) & ~np.isnan(stats.variance_N)
    if known.any():
        realized, predicted = square[known] / (count[known] - 1), stats.variance_N[known]
        metrics["budget/variance/predicted"] = float(predicted.mean())
        metrics["budget/variance/realized"] = float(realized.mean())
        if known.sum() > 1 and np.ptp(realized) > 0 and np.ptp(predicted) > 0:
            metrics["budget/variance/correlation"] = float(np.corrcoef(predicted, realized)[0, 1])
    return metrics


def mixed_chance(rate_N: npt.ArrayLike, n_N: npt.ArrayLike) -> FloatArray:
    """Chance that n rollouts are neither all right nor all wrong: 1 − pⁿ − (1 − p)ⁿ; NaN if p isn't in [0, 1]."""
    p, n = np.asarray(rate_N, dtype=np.float64), np.asarray(n_N, dtype=np.float64)
    valid = (p >= 0) & (p <= 1)
    p = np.where(valid, p, np.nan)
    return np.where(n > 0, 1 - p**n - (1 - p) ** n, p * 0)
