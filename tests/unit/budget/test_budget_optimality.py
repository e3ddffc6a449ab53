"""Allocators against brute force and against exchanges, where an optimum exists."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mrpo.budget.allocate import allocate
from mrpo.budget.offline import stats_from_rates
from mrpo.budget.stats import FloatArray, IntArray

from .levels import level
from .methods import B1, IDS, METHODS, MIN_LOW, marginal_gain

pytestmark = pytest.mark.unit


# Optimality


def value_knapsack(n: IntArray, p: FloatArray) -> FloatArray:
    return (1 - p**n - (1 - p) ** n) * p * (1 - p) ** 2


def cost_neyman(n: IntArray, p: FloatArray) -> FloatArray:
    return p * (1 - p) / n


def cost_rloo(n: IntArray, p: FloatArray) -> FloatArray:
    return p * (1 - p) / (n - 1)


def cost_dr_grpo(n: IntArray, p: FloatArray) -> FloatArray:
    return p * (1 - p) * (n - 1) / n**2


def cost_quota(n: IntArray, p: FloatArray) -> FloatArray:
    """What Webster's divisors minimise for weights w: Σ (n − c·w)²/w, up to terms that the sum fixes."""
    return n**2 / (p * (1 - p))


@functools.cache
def divisions(size: int, total: int, low: int, high: int) -> IntArray:
    """Every way to divide ``total`` over ``size`` prompts within the bounds."""
    rows = list(itertools.product(range(low, min(high, total) + 1), repeat=size - 1))
    table = np.array(rows, dtype=np.int64).reshape(len(rows), size - 1)
    last = total - table.sum(axis=1)
    return np.column_stack([table, last])[(last >= low) & (last <= high)]


SMALL = [
    (size, total, low, high)
    for size, total, low, high in itertools.product(range(1, 6), range(1, 21), (1, 2, 3), (4, 7, 18))
    if size * low <= total <= size * high
]


@pytest.mark.parametrize(
    ("method", "options", "cost", "min_low", "factor"),
    [
        ("neyman", {}, cost_neyman, 1, 1),
        ("vip", {"estimator": "rloo"}, cost_rloo, 2, 1),
        ("vip", {"estimator": "dr_grpo"}, cost_dr_grpo, 3, 1),
        ("vip", {"estimator": "dr_grpo"}, cost_dr_grpo, 2, 37 / 36),
        ("knapsack", {}, lambda n, p: -value_knapsack(n, p), 1, 1),
        ("hora", {}, lambda n, p: (1 - p) ** n, 0, 1),
        ("dynamo", {"above_low": False, "mastery": 1.0, "floor": 0.0}, cost_quota, 1, 1),
    ],
    ids=["neyman", "rloo", "dr_grpo from 3", "dr_grpo from 2", "knapsack", "hora", "dynamo"],
)
def test_no_division_of_any_small_instance_is_better(
    method: str, options: dict[str, Any], cost: Callable[..., FloatArray], min_low: int, factor: float
) -> None:
    rng = np.random.default_rng(0)
    checked = 0
    for size, total, low, high in SMALL:
        if low < min_low:
            continue
        p = rng.choice([rng.random(size), rng.choice([0.02, 0.2, 0.5, 0.9], size)])
        every = divisions(size, total, low, high)
        best = cost(every, p).sum(axis=1).min()
        n = allocate(method, stats_from_rates(p), total, low, high, **options)
        assert n.sum() == total
        assert cost(n, p).sum() <= best * factor + 1e-9 * abs(best), (p, n, total, low, high)
        checked += 1
    assert checked > 50


@pytest.mark.parametrize(("method", "options"), METHODS, ids=IDS)
@pytest.mark.parametrize("ties", [False, True])
def test_among_many_prompts_no_exchange_of_two_rollouts_gains(method: str, options: dict[str, Any], ties: bool) -> None:
    rng = np.random.default_rng(1)
    p = rng.integers(1, 17, 30_000) / 17 if ties else rng.random(30_000)
    stats, low = stats_from_rates(p), np.full(30_000, 2)
    n = allocate(method, stats, 481_111, 2, 40, **options)
    assert n.sum() == 481_111
    gain = marginal_gain(method, stats, low, options)
    next_gain, last_gain = gain(n[:, None])[:, 0], gain(np.maximum(n - 1, low)[:, None])[:, 0]
    assert next_gain[n < 40].max() <= last_gain[n > 2].min() * (1 + 1e-9)


@pytest.mark.parametrize(("method", "options"), METHODS, ids=IDS)
def test_gains_fall_and_the_closed_forms_say_where_they_cross_a_multiplier(
    method: str, options: dict[str, Any]
) -> None:
    rate = np.linspace(0.02, 0.98, 25)
    low = MIN_LOW[method]
    gain = marginal_gain(method, stats_from_rates(rate), np.full(25, low), options)
    gains = gain(np.arange(low, 200)[None].repeat(25, axis=0)).T
    assert ((np.diff(gains, axis=0) < 0) | (gains[1:] < 1e-290)).all()  # below there is no gain
    if method == "knapsack":  # has no closed form
        return
    for multiplier in np.geomspace(gains[30][gains[30] > 0].min(), gains[1].max(), 200):
        taken = low + (gains >= multiplier).sum(axis=0)
        expected = np.maximum(np.floor(level(method, options, gain.params[0], multiplier)), low)
        inside = taken < 199
        assert np.isin(taken - expected, [0, 1])[inside].all()


def test_knapsack_value_of_b1() -> None:
    n, p = allocate("knapsack", B1, 80, 2, 40), B1.mean_G
    assert value_knapsack(n, p).sum() == pytest.approx(0.349087, abs=5e-7)


def test_dr_grpo_isnt_convex_at_two_so_its_bound_is_needed() -> None:
    gains = -np.diff(cost_dr_grpo(np.arange(2, 9), np.array([0.5])))
    assert gains[0] < gains[1]
    assert (np.diff(gains[1:]) < 0).all()


def test_knapsack_value_is_concave_from_one_and_not_from_zero() -> None:
    n = np.arange(1, 40)[:, None]
    p = np.linspace(0.01, 0.99, 30)
    assert (np.diff(value_knapsack(n, p), 2, axis=0) < 0).all()
    from_zero = np.concatenate([np.zeros((1, 30)), value_knapsack(n, p)])
    assert (np.diff(from_zero, 2, axis=0)[0] > 0).all()
