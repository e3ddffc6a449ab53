"""The solver of every allocator: each rollout goes to the prompt whose marginal gain is largest.

For a gain that falls with n this is the exact optimum of any separable concave value (Fox 1966), and the Lagrangian's:
with the multiplier λ at the smallest gain taken, every prompt takes rollouts while its gain is at least λ. Gains are
compared with gains and counts with counts, never sums of floats, so the answer doesn't depend on the order of the
prompts (ties go to the lower index), and no prompt gets less when the total grows.

Shapes: ``G`` prompt groups, ``H`` rollouts that a prompt may get above its lower bound.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mrpo.budget.stats import FloatArray, IntArray

MIN_WEIGHT = 1e-100
"""A weight below this fraction of the largest counts as 0, so that gains can't underflow by themselves."""
MIN_GAIN = 1e-290
"""A gain below this is no gain."""
_COLUMNS = 64
"""Rollouts above the lower bound that are looked at first; doubled while a prompt takes all of them."""


@dataclass(frozen=True)
class MarginalGain:
    """What the next rollout is worth to each prompt.

    >>> gain = proportional(np.array([1.0, 3.0]))
    >>> gain(np.arange(2)[None]).tolist()  # rollouts 1 and 2 of each, by Webster's divisors
    [[0.6666666666666666, 0.2222222222222222], [2.0, 0.6666666666666666]]
    """

    function: Callable[..., FloatArray]
    """``function(n, *params)``: worth of rollout n+1 after n, at least 0 and strictly falling in n while above 0."""
    params: tuple[FloatArray, ...]
    """What the gain depends on, each float64[G]; NaN in any of them means that the prompt's worth is unknown."""
    wanted_G: FloatArray | None = None
    """Rollouts that a prompt of unknown worth should get; None: the mean of all prompts."""

    def __call__(self, n_GH: IntArray) -> FloatArray:
        return self.function(n_GH, *(p[:, None] for p in self.params))

    def take(self, index: npt.NDArray[np.bool_]) -> MarginalGain:
        return MarginalGain(self.function, tuple(p[index] for p in self.params))

    @property
    def unknown_G(self) -> npt.NDArray[np.bool_]:
        return np.logical_or.reduce([np.isnan(p) for p in self.params])


def scaled(weight_G: FloatArray) -> FloatArray:
    """Weights over their largest; unknown (NaN, infinite, negative) becomes NaN, and negligible 0."""
    weight = np.where(np.isfinite(weight_G) & (weight_G >= 0), weight_G, np.nan)
    largest = np.fmax.reduce(weight, initial=0.0)
    if largest == 0:
        return weight
    weight = weight / largest
    return np.where(weight < MIN_WEIGHT, 0.0, weight)


def proportional(
    weight_G: FloatArray, base_G: FloatArray | None = None, wanted_G: FloatArray | None = None
) -> MarginalGain:
    """n − base ∝ weight, rounded by Webster's divisors: the integers that minimise Σ (n − base − c·w)²/w."""
    base_G = np.zeros(len(weight_G)) if base_G is None else base_G
    return MarginalGain(lambda n, w, b: w / (n - b + 0.5), (scaled(weight_G), base_G), wanted_G)


def fill(
    gain: MarginalGain, total: float, low_G: IntArray, high_G: IntArray, cost_G: FloatArray | None = None
) -> IntArray:
    """Rollouts per prompt, int64[G]: from ``low_G`` on, the largest gain per cost next, until ``total`` is spent.

    Without ``cost_G`` a rollout costs 1 and the sum is exactly ``total``, which must lie between the sums of the
    bounds. With it (tokens) the spending stays at or below ``total``, and no prompt below its upper bound could afford
    one more. What no gain asks for is shared evenly.
    """
    n_G = _fill(gain, total, low_G, high_G, cost_G)
    return _fill(proportional(np.ones(len(n_G))), total, n_G, high_G, cost_G)


def spent(n_G: IntArray, cost_G: FloatArray | None) -> float:
    """What these rollouts cost: their number, or Σ n·cost."""
    return int(n_G.sum()) if cost_G is None else float(n_G @ cost_G)


def _fill(gain: MarginalGain, total: float, low_G: IntArray, high_G: IntArray, cost_G: FloatArray | None) -> IntArray:
    cost = np.ones(len(low_G)) if cost_G is None else cost_G
    left = total - spent(low_G, cost_G)
    affordable = int(np.minimum(high_G - low_G, left // cost + 1).max(initial=0)) if left > 0 else 0
    columns = _COLUMNS
    while True:
        columns = min(columns, affordable)
        n_GH = low_G[:, None] + np.arange(columns)
        gain_GH = _falling(gain(n_GH)) / cost[:, None]
        candidate_GH = (n_GH < high_G[:, None]) & (gain_GH >= MIN_GAIN)
        best = np.argsort(-gain_GH[candidate_GH], kind="stable")  # ties: lower prompt
        n_G = _take(np.nonzero(candidate_GH)[0][best], total, low_G, cost_G)
        if columns == affordable or not ((n_G - low_G == columns) & (n_G < high_G)).any():
            return n_G
        columns *= 2


def _falling(gain_GH: FloatArray) -> FloatArray:
    """The same gains, each at least one float below the one before it.

    Rounding lets a gain stand still where it falls by less than a float. A prompt would then take all its equal gains
    before the next prompt with the same gains gets its first.
    """
    for h in range(1, gain_GH.shape[1]):
        gain_GH[:, h] = np.minimum(gain_GH[:, h], np.nextafter(gain_GH[:, h - 1], 0))
    return gain_GH


def _take(prompts: IntArray, total: float, low_G: IntArray, cost_G: FloatArray | None) -> IntArray:
    """Rollouts per prompt after handing one to each of ``prompts`` in turn, skipping those that the rest can't pay."""
    n_G = low_G.copy()
    cost = np.ones(len(low_G)) if cost_G is None else cost_G
    while len(prompts):
        left = total - spent(n_G, cost_G)
        prompts = prompts[cost[prompts] <= left]
        fit = int(np.searchsorted(np.cumsum(cost[prompts]), left, side="right"))
        n_G += np.bincount(prompts[:fit], minlength=len(n_G))
        prompts = prompts[fit:]
    return n_G
