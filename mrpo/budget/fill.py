"""The one solver: every rollout to whoever gains most from the next one, all prompts at once.

An allocator says what prompt i gains from its (n+1)-th rollout, a number that falls with n. Handing rollouts out one by
one to the largest gain is then optimal for any separable concave value (Fox 1966), and it is the same as finding the
price at which everyone buys while gain ≥ price. So: bracket the price by bisection until no prompt's count moves by
more than one inside the bracket, then take the best of the candidates left, ties to the lower index. Gains are compared
with gains and counts with counts, never sums of floats: the answer doesn't depend on the order of the prompts (up to
ties), and nobody's share falls when the total grows. What no gain asks for is shared evenly.

Shapes: ``N`` prompts. Cost: some passes over the arrays, in blocks that stay in cache; nothing is sorted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mrpo.budget.stats import FloatArray, IntArray

BLOCK = 1 << 14
SAMPLE = 1 << 12
NEGLIGIBLE = 1e-100
"""A weight below this fraction of the largest counts as 0, so that gains can't underflow by themselves."""
FREE = 1e-290
"""A gain below this is no gain."""


@dataclass(frozen=True)
class Curve:
    """What the next rollout is worth to each prompt."""

    gain: Callable[..., FloatArray]
    """``gain(n, *params)``: worth of rollout n+1 after n, at least 0 and strictly falling in n while above 0."""
    params: tuple[FloatArray, ...]
    """What the gain depends on, one row a prompt; NaN in any of them means that the prompt's worth is unknown."""
    level: Callable[..., FloatArray] | None = None
    """``level(price, *params)``: a real x such that ⌊x⌋ or ⌊x⌋ + 1 are bought at ``price``. None: halving finds it."""
    wanted: FloatArray | None = None
    """Rollouts that a prompt of unknown worth should get; None: the mean of all prompts."""

    def take(self, index: slice | IntArray) -> Curve:
        return Curve(self.gain, tuple(p[index] for p in self.params), self.level)


def scaled(weight_N: FloatArray) -> FloatArray:
    """Weights over their largest; unknown (NaN, infinite, negative) becomes NaN, and negligible 0."""
    weight = np.where(np.isfinite(weight_N) & (weight_N >= 0), weight_N, np.nan)
    top = np.fmax.reduce(weight, initial=0.0)
    if top == 0:
        return weight
    weight = weight / top
    return np.where(weight < NEGLIGIBLE, 0.0, weight)


def proportional(weight_N: FloatArray, base_N: FloatArray | None = None) -> Curve:
    """n − base ∝ weight, rounded by Webster's divisors: the integers that minimise Σ (n − base − c·w)²/w."""
    base = np.zeros(len(weight_N)) if base_N is None else base_N
    return Curve(lambda n, w, b: w / (n - b + 0.5), (scaled(weight_N), base), lambda price, w, b: w / price - 0.5 + b)


@dataclass(frozen=True)
class Market:
    """Prompts that may still buy: between ``low`` and ``high`` rollouts, each at ``cost`` (1 if None)."""

    curve: Curve
    low: IntArray
    high: IntArray
    cost: FloatArray | None = None

    def __len__(self) -> int:
        return len(self.low)

    def take(self, index: slice | IntArray) -> Market:
        cost = None if self.cost is None else self.cost[index]
        return Market(self.curve.take(index), self.low[index], self.high[index], cost)

    def gain(self, n: IntArray) -> FloatArray:
        """Worth of the next rollout, per unit of its cost."""
        return self._blockwise(lambda block, n: block._gain(n), n, np.empty(len(self)))

    def bought(self, price: float) -> IntArray:
        """How many each prompt takes while its gain is at least ``price``."""
        take = Market._searched if self.curve.level is None else Market._levelled
        return self._blockwise(lambda block, low: take(block, price), self.low, np.empty(len(self), dtype=np.int64))

    def _blockwise(
        self, function: Callable[[Market, IntArray], np.ndarray], n: IntArray, out: np.ndarray
    ) -> np.ndarray:
        for start in range(0, len(self), BLOCK):
            part = slice(start, start + BLOCK)
            out[part] = function(self.take(part), n[part])
        return out

    def _gain(self, n: IntArray) -> FloatArray:
        gain = self.curve.gain(n, *self.curve.params)
        return gain if self.cost is None else gain / self.cost

    def _levelled(self, price: float) -> IntArray:
        assert self.curve.level is not None
        x = self.curve.level(price if self.cost is None else price * self.cost, *self.curve.params)
        n = np.clip(x, self.low, self.high).astype(np.int64)
        return n + ((n < self.high) & (self._gain(n) >= price))

    def _searched(self, price: float) -> IntArray:
        low, high = self.low, self.high
        for _ in range(int((high - low).max(initial=0)).bit_length()):
            middle = (low + high + 1) // 2
            buys = (middle > low) & (self._gain(np.maximum(middle - 1, self.low)) >= price)
            low, high = np.where(buys, middle, low), np.where(buys, high, np.maximum(middle - 1, low))
        return low


def fill(curve: Curve, total: float, low_N: IntArray, high_N: IntArray, cost_N: FloatArray | None = None) -> IntArray:
    """Rollouts per prompt: starts at ``low_N`` and buys the best gain per cost until ``total`` is spent.

    Without ``cost_N`` a rollout costs 1 and the sum is exactly ``total``, which must lie between the sums of the
    bounds. With it (tokens) the spending stays at or below ``total``, and no prompt with room could afford one more.
    """
    n_N = low_N.copy()
    evenly = False
    while (budget := total - spent(n_N, cost_N)) > 0:
        stage = proportional(np.ones(len(n_N))) if evenly else curve
        room_N = n_N < high_N
        live = where(room_N if cost_N is None else room_N & (cost_N <= budget))
        market = Market(stage, n_N, high_N, cost_N).take(live)
        worth = market.gain(market.low) >= FREE
        if not worth.all():
            wanting = np.flatnonzero(worth)
            live, market = np.arange(len(n_N))[live][wanting], market.take(wanting)
        bought = _buy(market, budget) if len(market) else market.low
        if (bought > market.low).any():
            n_N[live] = bought
        elif evenly:
            break
        else:
            evenly = True
    return n_N


def spent(n_N: IntArray, cost_N: FloatArray | None) -> float:
    """What these rollouts cost: their number, or Σ n·cost."""
    return int(n_N.sum()) if cost_N is None else float(n_N @ cost_N)


def where(mask_N: npt.NDArray[np.bool_]) -> slice | IntArray:
    """The indices at which a mask holds; everywhere is a slice, which copies nothing."""
    return slice(None) if mask_N.all() else np.flatnonzero(mask_N)


def _buy(market: Market, budget: float) -> IntArray:
    """Counts of a market whose every prompt wants one more, with ``budget`` to spend above its lows."""
    last = market.gain(market.high - 1)
    if (last < FREE).any():
        market = replace(market, high=market.bought(FREE))
        last = market.gain(market.high - 1)
    limit = spent(market.low, market.cost) + budget
    if spent(market.high, market.cost) <= limit:
        return market.high
    dear, n_N, cheap, high = _bracket(market, limit, float(market.gain(market.low).max()), float(last.min()))
    moving = np.flatnonzero(n_N < high)
    inner = replace(market.take(moving), low=n_N[moving], high=high[moving])
    budget = limit - spent(n_N, market.cost)
    while (inner.high - inner.low).max(initial=0) > 1 and cheap < (price := _between(dear, cheap)) < dear:
        n = inner.bought(price)
        cost = spent(n - inner.low, inner.cost)
        if cost > budget:
            cheap, inner = price, replace(inner, high=n)
        else:
            dear, inner, budget = price, replace(inner, low=n), budget - cost
            n_N[moving] = n
        live = np.flatnonzero(inner.low < inner.high)
        moving, inner = moving[live], inner.take(live)
    n_N[moving] += _best(inner, budget)
    return n_N


def _between(dear: float, cheap: float) -> float:
    return float(np.exp((np.log(dear) + np.log(cheap)) / 2))


def _bracket(market: Market, limit: float, first: float, last: float) -> tuple[float, IntArray, float, IntArray]:
    """A dear price at which at most ``limit`` is spent, a cheap one at which more is, and the counts at both.

    A large market is first guessed from a sample of it, so that the bracket is narrow.
    """
    dear, low, cheap, high = first * 2, market.low.copy(), last / 2, market.high
    step = len(market) // SAMPLE
    if step > 1:
        sample = market.take(slice(None, None, step))
        guess, share = dear, limit * len(sample) / len(market)
        sample_cheap = cheap
        while guess > sample_cheap * 1.005:
            price = _between(guess, sample_cheap)
            if spent(sample.bought(price), sample.cost) > share:
                sample_cheap = price
            else:
                guess = price
        for price in (guess * w for width in (1.02, 1.15, 2) for w in (width, 1 / width)):
            if cheap < price < dear:
                n = market.bought(price)
                if spent(n, market.cost) > limit:
                    cheap, high = price, n
                else:
                    dear, low = price, n
    return dear, low, cheap, high


def _best(market: Market, budget: float) -> IntArray:
    """Spends ``budget`` on at most one more rollout for each prompt, the largest gain first, then the lower index."""
    extra_N = np.zeros(len(market), dtype=np.int64)
    gain_N = market.gain(market.low)
    if market.cost is not None:
        order = np.argsort(-gain_N, kind="stable")
        extra_N[order[np.cumsum(market.cost[order]) <= budget]] = 1
    elif (chosen := min(round(budget), len(market))) > 0:
        cut = np.partition(gain_N, len(gain_N) - chosen)[len(gain_N) - chosen]
        extra_N[gain_N > cut] = 1
        extra_N[np.flatnonzero(gain_N == cut)[: chosen - int(extra_N.sum())]] = 1
    return extra_N
