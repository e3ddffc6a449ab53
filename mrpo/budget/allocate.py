"""Divide a step's budget over its prompts. Shapes: ``N`` prompts.

The contract, for every method: the sum is exactly ``total``; low ≤ n ≤ high; the same input gives the same answer;
permuting the prompts permutes the answer (up to ties, which go to the lower index); a higher priority never gets less;
equal prompts differ by at most one; bounds that can't be met are an error.
"""

from __future__ import annotations

import inspect
import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mrpo.budget.allocators import ALLOCATORS
from mrpo.budget.fill import Curve, fill, proportional, spent, where
from mrpo.budget.stats import FloatArray, IntArray, PromptStats
from mrpo.errors import ConfigError, unknown_name


def allocate(
    method: str,
    stats: PromptStats,
    total: int,
    low: npt.ArrayLike,
    high: npt.ArrayLike,
    *,
    exploration: float | None = None,
    unit: Literal["rollouts", "tokens"] = "rollouts",
    **options: Any,
) -> IntArray:
    """Rollouts per prompt, int64[N].

    ``low`` and ``high`` bound each prompt's rollouts (one number, or one a prompt). A prompt whose worth is unknown
    gets ``exploration`` rollouts within its bounds (None: the mean of all prompts); the method divides the rest over
    the others. ``options`` are the method's own.

    With ``unit="tokens"``, ``total`` is in expected tokens, Σ n·``stats.response_length_N`` (an unknown length is taken
    as the mean of the known ones), and worth is compared per token. It is never exceeded, and what is left of it is
    less than one more rollout would take of any prompt below its ``high``.

    Raises ConfigError for an unknown method or option, and when ``total`` doesn't lie between the sums of the bounds.
    """
    size = len(stats)
    low_N, high_N = _bound("low", low, size), _bound("high", high, size)
    if unit not in ("rollouts", "tokens"):
        raise unknown_name("budget.unit", unit, ["rollouts", "tokens"])
    cost_N = _lengths(stats) if unit == "tokens" else None
    _check(total, low_N, high_N, cost_N)
    curve = _curve(method, stats, low_N, options)
    if exploration is not None:
        curve = Curve(curve.gain, curve.params, curve.level, wanted=np.full(size, float(exploration)))
    unknown_N = np.logical_or.reduce([np.isnan(p) for p in curve.params])
    known = where(~unknown_N)
    if isinstance(known, slice):
        return fill(curve, total, low_N, high_N, cost_N)
    n_N = low_N.copy()
    n_N[unknown_N] = _explore(unknown_N, curve.wanted, total, low_N, high_N, cost_N)
    left = total - spent(n_N[unknown_N], _at(cost_N, unknown_N))
    n_N[known] = fill(curve.take(known), left, low_N[known], high_N[known], _at(cost_N, known))
    return fill(proportional(np.ones(size)), total, n_N, high_N, cost_N)


def _explore(
    unknown_N: npt.NDArray[np.bool_],
    wanted_N: FloatArray | None,
    total: int,
    low_N: IntArray,
    high_N: IntArray,
    cost_N: FloatArray | None,
) -> IntArray:
    """Rollouts of the unknown prompts: what they want, or their part of it if the others' ``low`` leaves less."""
    low, high, cost = low_N[unknown_N], high_N[unknown_N], _at(cost_N, unknown_N)
    mean = total / (len(low_N) if cost_N is None else cost_N.sum())
    wanted = np.clip(np.full(len(low), mean) if wanted_N is None else wanted_N[unknown_N], low, high)
    share = math.fsum(wanted if cost is None else wanted * cost)
    share = min(share if cost is not None else round(share), total - spent(low_N[~unknown_N], _at(cost_N, ~unknown_N)))
    return fill(proportional(wanted), share, low, high, cost)


def _curve(method: str, stats: PromptStats, low_N: IntArray, options: dict[str, Any]) -> Curve:
    allocator = ALLOCATORS[method]
    allowed = list(inspect.signature(allocator).parameters)[2:]
    for name in options:
        if name not in allowed:
            raise unknown_name(f"option of budget.method {method}", name, allowed)
    return allocator(stats, low_N, **options)


def _bound(name: str, value: npt.ArrayLike, size: int) -> IntArray:
    array = np.asarray(value)
    if array.shape not in ((), (size,)):
        raise ConfigError(f"budget.{name}: shape {array.shape}, allowed one number or one for each of N={size} prompts")
    if array.dtype.kind not in "iu" and array.size:
        raise ConfigError(f"budget.{name}: given {array.dtype} values, allowed whole numbers")
    return np.broadcast_to(array, (size,)).astype(np.int64)


def _check(total: int, low_N: IntArray, high_N: IntArray, cost_N: FloatArray | None) -> None:
    bounds = f"low={_told(low_N)}, high={_told(high_N)}"
    if (low_N < 0).any() or (low_N > high_N).any():
        raise ConfigError(f"budget: {bounds}, allowed 0 <= low <= high")
    least, most = spent(low_N, cost_N), spent(high_N, cost_N)
    if cost_N is None and total != int(total):
        raise ConfigError(f"budget: total={total} rollouts, allowed whole numbers")
    if total < least or (cost_N is None and total > most):
        unit = "rollouts" if cost_N is None else "expected tokens"
        raise ConfigError(
            f"budget: total={total} {unit} can't be divided over N={len(low_N)} prompts with {bounds}: "
            f"allowed {least:.15g} to {most:.15g}"
        )


def _lengths(stats: PromptStats) -> FloatArray:
    length = np.full(len(stats), np.nan) if stats.response_length_N is None else stats.response_length_N
    known = length[np.isfinite(length) & (length > 0)]
    if not len(known) and len(stats):
        raise ConfigError("budget.unit: given 'tokens', but no prompt has a response length; allowed 'rollouts'")
    return np.where(np.isfinite(length) & (length > 0), length, known.mean() if len(known) else 1.0)


def _at(array: FloatArray | None, index: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> FloatArray | None:
    return None if array is None else array[index]


def _told(bound_N: IntArray) -> str:
    if not len(bound_N) or bound_N.min() == bound_N.max():
        return str(bound_N[0]) if len(bound_N) else "none"
    return f"{bound_N.min()}..{bound_N.max()} (one a prompt)"
