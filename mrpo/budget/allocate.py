"""Divide a step's budget over its prompts. Shapes: ``G`` prompt groups.

The contract, for every method: the sum is exactly ``total``; low ≤ n ≤ high; the same input gives the same answer;
permuting the prompts permutes the answer (up to ties, which go to the lower index); a higher priority never gets less;
equal prompts differ by at most one; bounds that can't be met are an error.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from mrpo.budget.allocators import ALLOCATORS
from mrpo.budget.greedy import fill, proportional, spent
from mrpo.budget.stats import FloatArray, IntArray, PromptStats
from mrpo.config.allocators import method_config
from mrpo.config.budget import BudgetConfig, Unit
from mrpo.errors import ConfigError

BoolArray = npt.NDArray[np.bool_]


def allocate(
    method: str,
    stats: PromptStats,
    total: int,
    low: npt.ArrayLike,
    high: npt.ArrayLike,
    *,
    exploration: float | None = None,
    unit: Unit = "rollouts",
    **options: Any,
) -> IntArray:
    """Rollouts per prompt, int64[G].

    >>> stats = PromptStats(trials_G=[16, 16, 0], mean_G=[0.5, 0.9, np.nan], variance_G=[0.25, 0.09, np.nan])
    >>> allocate("neyman", stats, total=24, low=2, high=16).tolist()
    [10, 6, 8]
    >>> allocate("dynamo", stats, total=24, low=2, high=16, mastery=0.95).tolist()
    [14, 6, 4]

    Args:
        method: name of the allocator, a module of ``mrpo.budget.allocators``.
        stats: evidence on the G prompts. One whose worth is unknown gets ``exploration`` rollouts within its bounds,
            and the method divides the rest over the others.
        total: what is divided, in ``unit``.
        low: fewest rollouts of a prompt, one number or one for each.
        high: most rollouts of a prompt, one number or one for each.
        exploration: None is the mean of all prompts.
        unit: with "tokens", ``total`` is in expected tokens, Σ n·``stats.response_length_G`` (an unknown length is
            taken as the mean of the known ones), and worth is compared per token. It is never exceeded, and what is
            left of it is less than one more rollout would take of any prompt below its ``high``.
        options: the method's own, as its class in ``mrpo.config.allocators`` has them.

    Raises:
        ConfigError: an unknown method or option, a value that isn't allowed, or a ``total`` that doesn't lie between
            the sums of the bounds.
    """
    config = method_config(method, options, unit=unit, exploration=exploration)
    low_G, high_G = _bound("low", low, len(stats)), _bound("high", high, len(stats))
    cost_G = _lengths(stats) if unit == "tokens" else None
    _check(config, stats, total, low_G, high_G, cost_G)
    gain = ALLOCATORS[method](stats, low_G, config)
    unknown_G = gain.unknown_G
    if not unknown_G.any():
        return fill(gain, total, low_G, high_G, cost_G)
    wanted_G = gain.wanted_G if exploration is None else np.full(len(stats), float(exploration))
    n_G = low_G.copy()
    n_G[unknown_G] = _explore(unknown_G, wanted_G, total, low_G, high_G, cost_G)
    known_G = ~unknown_G
    left = total - spent(n_G[unknown_G], _at(cost_G, unknown_G))
    n_G[known_G] = fill(gain.take(known_G), left, low_G[known_G], high_G[known_G], _at(cost_G, known_G))
    return fill(proportional(np.ones(len(stats))), total, n_G, high_G, cost_G)


def _explore(
    unknown_G: BoolArray,
    wanted_G: FloatArray | None,
    total: int,
    low_G: IntArray,
    high_G: IntArray,
    cost_G: FloatArray | None,
) -> IntArray:
    """Rollouts of the unknown prompts: what they want, or their part of it if the others' ``low`` leaves less."""
    low, high, cost = low_G[unknown_G], high_G[unknown_G], _at(cost_G, unknown_G)
    mean = total / (len(low_G) if cost_G is None else cost_G.sum())
    wanted = np.clip(np.full(len(low), mean) if wanted_G is None else wanted_G[unknown_G], low, high)
    share = math.fsum(wanted if cost is None else wanted * cost)
    share = min(share if cost is not None else round(share), total - spent(low_G[~unknown_G], _at(cost_G, ~unknown_G)))
    return fill(proportional(wanted), share, low, high, cost)


def _bound(name: str, value: npt.ArrayLike, size: int) -> IntArray:
    array = np.asarray(value)
    if array.shape not in ((), (size,)):
        raise ConfigError(f"budget.{name}: shape {array.shape}, allowed one number or one for each of G={size} prompts")
    if array.dtype.kind not in "iu" and array.size:
        raise ConfigError(f"budget.{name}: given {array.dtype} values, allowed whole numbers")
    return np.broadcast_to(array, (size,)).astype(np.int64)


def _check(
    config: BudgetConfig,
    stats: PromptStats,
    total: int,
    low_G: IntArray,
    high_G: IntArray,
    cost_G: FloatArray | None,
) -> None:
    bounds = f"low={_range(low_G)}, high={_range(high_G)}"
    if (low_G < 0).any() or (low_G > high_G).any():
        raise ConfigError(f"budget: {bounds}, allowed 0 <= low <= high")
    if len(low_G):
        config.require_low(int(low_G.min()))
    if config.needs_success_rates and ((stats.mean_G < 0) | (stats.mean_G > 1)).any():
        raise ConfigError(
            f"budget.signal: method {config.method} needs success rates in [0, 1]; allowed signal: bernoulli"
        )
    smallest, largest = spent(low_G, cost_G), spent(high_G, cost_G)
    if cost_G is None and total != int(total):
        raise ConfigError(f"budget: total={total} rollouts, allowed whole numbers")
    if total < smallest or (cost_G is None and total > largest):
        unit = "rollouts" if cost_G is None else "expected tokens"
        raise ConfigError(
            f"budget: total={total} {unit} can't be divided over G={len(low_G)} prompts with {bounds}: "
            f"allowed {smallest:.15g} to {largest:.15g}"
        )


def _lengths(stats: PromptStats) -> FloatArray:
    length = np.full(len(stats), np.nan) if stats.response_length_G is None else stats.response_length_G
    known = length[np.isfinite(length) & (length > 0)]
    if not len(known) and len(stats):
        raise ConfigError("budget.unit: given 'tokens', but no prompt has a response length; allowed 'rollouts'")
    return np.where(np.isfinite(length) & (length > 0), length, known.mean() if len(known) else 1.0)


def _at(array: FloatArray | None, index: BoolArray) -> FloatArray | None:
    return None if array is None else array[index]


def _range(bound_G: IntArray) -> str:
    if not len(bound_G) or bound_G.min() == bound_G.max():
        return str(bound_G[0]) if len(bound_G) else "none"
    return f"{bound_G.min()}..{bound_G.max()} (one for each prompt)"
