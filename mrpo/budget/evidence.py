"""Evidence on a prompt's rewards, and how two pieces of it merge.

Shapes: ``N`` rollouts, ``G`` prompt groups, ``C`` columns (rewards, then the total), ``F`` fields of a column: the
weight of its rollouts, the sum of their squared weights, their mean, and their squared deviations from it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mrpo.budget.stats import FloatArray, IntArray

WEIGHT, SQUARED, MEAN, DEVIATION = range(4)


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known of each prompt's rewards. NaN where nothing is."""

    names: tuple[str, ...]
    """The columns: the rewards in the order in which they are observed, then ``total``, if there are several."""
    trials_GC: FloatArray
    """Rollouts seen (their decayed weight, if older ones count less)."""
    mean_GC: FloatArray
    variance_GC: FloatArray
    """Unbiased; NaN below two rollouts."""
    binary_GC: npt.NDArray[np.bool_]
    """Whether all values seen were 0 or 1: only then is the variance about the mean as large as mean·(1 − mean)."""
    positive_G: FloatArray
    """Share of rollouts whose total was above 0, or its posterior mean."""
    spread_G: FloatArray
    """p(1 − p) of that event: its unbiased estimate, or its posterior mean."""

    @property
    def rewards(self) -> int:
        """K, the number of rewards: the columns up to there, without the total."""
        return max(1, len(self.names) - 1)


def gather(group_N: IntArray, size: int, rewards_NC: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Fields [G, C, F] of rollouts, NaN skipped, and how many totals are above 0 [G].

    Rollout i is of prompt ``group_N[i]``, below ``size`` = G.
    """
    fields = np.zeros((size, rewards_NC.shape[1], 4))
    for c, reward in enumerate(rewards_NC.T):
        seen = np.flatnonzero(~np.isnan(reward))
        group, value = group_N[seen], reward[seen]
        count = np.bincount(group, minlength=size).astype(np.float64)
        mean = np.bincount(group, value, minlength=size) / np.maximum(count, 1)
        fields[:, c, WEIGHT] = fields[:, c, SQUARED] = count
        fields[:, c, MEAN] = mean
        fields[:, c, DEVIATION] = np.bincount(group, (value - mean[group]) ** 2, minlength=size)
    return fields, np.bincount(group_N, rewards_NC[:, -1] > 0, minlength=size).astype(np.float64)


def merge(old: FloatArray, new: FloatArray, keep_G: FloatArray) -> FloatArray:
    """Fields of both together, the old one's weights first multiplied by ``keep_G`` (Chan, Golub and LeVeque 1979)."""
    keep = keep_G[:, None]
    before, added = old[..., WEIGHT] * keep, new[..., WEIGHT]
    weight = before + added
    share = np.divide(added, weight, out=np.zeros_like(weight), where=weight > 0)
    gap = new[..., MEAN] - old[..., MEAN]
    both = np.empty_like(old)
    both[..., WEIGHT] = weight
    both[..., SQUARED] = old[..., SQUARED] * keep**2 + new[..., SQUARED]
    both[..., MEAN] = old[..., MEAN] + gap * share
    both[..., DEVIATION] = old[..., DEVIATION] * keep + new[..., DEVIATION] + gap**2 * before * share
    return both


def read(
    fields: FloatArray, positive_G: FloatArray, names: tuple[str, ...], prior: tuple[float, float] | None = None
) -> Evidence:
    """What fields [G, C, F] say. ``prior`` = (a, b) reads the success rate as a Beta posterior, Beta(a + k, b + n − k).

    Unbiased under unequal weights: the correction is W/(W − Σw²/W), with n equal weights n/(n − 1).
    """
    weight, squared, mean, deviation = np.moveaxis(fields, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        known = np.where(weight > 0, 1.0, np.nan)
        rest = weight - squared / weight
        rest = np.where(rest > 1e-6 * weight, rest, np.nan)
        binary = np.abs(deviation / weight - mean * (1 - mean)) < 1e-4
        trials, total_known, total_rest = weight[:, -1], known[:, -1], rest[:, -1]
        rate = positive_G / trials
        spread = positive_G * (1 - rate) / total_rest
    if prior is not None:
        a, b = prior[0] + positive_G, prior[1] + trials - positive_G
        rate, spread = a / (a + b), a * b / ((a + b) * (a + b + 1))
    spread = np.maximum(spread, 0) * total_known
    return Evidence(names, weight, mean * known, np.maximum(deviation, 0) / rest, binary, rate * total_known, spread)
