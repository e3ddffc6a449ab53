"""The allocators' contract, their optima against brute force, and the worked examples."""

from __future__ import annotations

import itertools
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mrpo.budget.allocate import allocate
from mrpo.budget.greedy import MIN_GAIN, scaled
from mrpo.budget.history import PromptHistory
from mrpo.budget.offline import stats_from_counts, stats_from_rates
from mrpo.budget.stats import FloatArray, PromptStats
from mrpo.config.allocators import METHODS as CONFIGS
from mrpo.errors import ConfigError

from .levels import level
from .methods import A1, B1, BY_PRIORITY, IDS, METHODS, MIN_LOW, marginal_gain

pytestmark = pytest.mark.unit


# Worked examples


def test_dynamo_gives_the_released_division_of_the_worked_example() -> None:
    assert allocate("dynamo", A1, 96, 8, 24).tolist() == [14, 24, 24, 13, 13, 8]
    assert allocate("dynamo", A1, 96, 4, 48).tolist() == [6, 26, 48, 6, 6, 4]


@pytest.mark.parametrize("successes", [0, 16])
def test_dynamo_is_uniform_when_nothing_is_seen_or_all_is_mastered(successes: int) -> None:
    stats = stats_from_counts([successes] * 6, [successes] * 6)
    assert allocate("dynamo", stats, 96, 8, 24).tolist() == [16] * 6


@pytest.mark.parametrize(("method", "options"), [("neyman", {}), ("dynamo", {"floor": 0.0})])
def test_priorities_of_zero_share_evenly(method: str, options: dict[str, Any]) -> None:
    stats = stats_from_counts([0] * 5, [16] * 5)
    assert allocate(method, stats, 43, 0, 24, **options).tolist() == [9, 9, 9, 8, 8]


@pytest.mark.parametrize(
    ("method", "options", "expected"),
    [
        ("vip", {"estimator": "rloo"}, [10, 19, 22, 19, 10]),
        ("knapsack", {}, [39, 17, 9, 13, 2]),
        ("gvm", {}, [32, 17, 12, 10, 9]),
        ("neyman", {}, [10, 19, 22, 19, 10]),
        ("dynamo", {"above_low": False, "mastery": 1.0}, [5, 21, 28, 21, 5]),
    ],
)
def test_worked_example_b1(method: str, options: dict[str, Any], expected: list[int]) -> None:
    assert allocate(method, B1, 80, 2, 40, **options).tolist() == expected


@pytest.mark.parametrize(
    ("method", "options", "expected"),
    [
        ("vip", {"estimator": "rloo"}, [10.07, 19.02, 21.81, 19.02, 10.07]),
        ("vip", {"estimator": "dr_grpo"}, [9.16, 19.50, 22.69, 19.50, 9.16]),
        ("neyman", {}, [9.68, 19.22, 22.20, 19.22, 9.68]),
    ],
)
def test_b1_lies_within_one_rollout_of_the_continuous_optimum(
    method: str, options: dict[str, Any], expected: list[float]
) -> None:
    n = continuous(method, options, B1, 80)
    assert n.round(2).tolist() == expected
    assert np.abs(allocate(method, B1, 80, 2, 40, **options) - n).max() < 1


@pytest.mark.parametrize(("total", "expected"), [(2, [1, 1]), (5, [2, 3]), (6, [3, 3]), (7, [3, 4])])
def test_hora_gives_the_next_rollout_to_the_likeliest_first_hit(total: int, expected: list[int]) -> None:
    """Beta(1, 1): 1/2, 1/6, 1/12, 1/20; Beta(1, 3): 1/4, 3/20, 1/10, 1/14."""
    history = PromptHistory(["right"])
    history.observe([8, 8], [[0.0], [0.0]])
    stats = history.stats([7, 8], predictor="beta")
    assert np.isnan(stats.mean_G[0])
    mean, variance = np.array([1 / 2, stats.mean_G[1]]), np.array([1 / 6, stats.variance_G[1]])
    posterior = PromptStats(np.array([0.0, 2.0]), mean, variance)
    assert posterior.mean_G[1] == 1 / 4
    gain = marginal_gain("hora", posterior, np.zeros(2, dtype=np.int64), {})(np.arange(4)[None])
    assert gain == pytest.approx(np.array([[1 / 2, 1 / 6, 1 / 12, 1 / 20], [1 / 4, 3 / 20, 1 / 10, 1 / 14]]))
    assert allocate("hora", posterior, total, 0, 9).tolist() == expected


def test_hora_of_known_rates_is_the_limit_of_ever_surer_ones() -> None:
    p, n = np.array([0.05, 0.5, 0.9]), np.arange(5)[None]
    known = marginal_gain("hora", stats_from_rates(p), np.zeros(3, dtype=np.int64), {})(n)
    assert known == pytest.approx(p[:, None] * (1 - p[:, None]) ** n)
    for size, tolerance in ((1e4, 1e-2), (1e7, 1e-5)):
        sure = PromptStats(np.full(3, size), p, p * (1 - p) * size / (size + 1))
        gain = marginal_gain("hora", sure, np.zeros(3, dtype=np.int64), {})(n)
        assert gain == pytest.approx(known, rel=tolerance, abs=1e-3 * tolerance)


def test_neyman_on_the_floored_priorities_of_a1() -> None:
    priority = np.maximum(np.nan_to_num(A1.variance_G[:5]), 0.01)
    priority[3:] = 0.01  # mastered
    stats = PromptStats(np.full(5, 16.0), A1.mean_G[:5], priority)
    n = continuous("neyman", {}, stats, 80)
    assert n.round(2).tolist() == [6.91, 23.60, 35.68, 6.91, 6.91]
    assert (priority / n).sum() == pytest.approx(0.016761, abs=5e-7)
    assert np.abs(allocate("neyman", stats, 80, 2, 40) - n).max() < 1


def test_released_dynamo_reaches_only_the_variance_of_uniform() -> None:
    priority = np.array([0.01, 7 / 60, 4 / 15, 0.01, 0.01])
    proportional, uniform = 80 * priority / priority.sum(), np.full(5, 16.0)
    assert (priority / uniform).sum() == pytest.approx(0.025833, abs=5e-7)
    assert (priority / proportional).sum() == pytest.approx(0.025833, abs=5e-7)


def continuous(method: str, options: dict[str, Any], stats: PromptStats, total: float) -> FloatArray:
    """The levels at the multiplier at which they sum to the total, by bisection."""
    weight = scaled(stats.variance_G)
    upper, lower = 1e3, 1e-9
    for _ in range(200):
        multiplier = (upper * lower) ** 0.5
        if np.sum(level(method, options, weight, multiplier)) > total:
            lower = multiplier
        else:
            upper = multiplier
    return level(method, options, weight, upper)


# The contract


@st.composite
def instances(
    draw: st.DrawFn, min_low: int = 0, same_bounds: bool = False, unknown: bool = True
) -> tuple[PromptStats, int, Any, Any]:
    size = draw(st.integers(1, 12))
    rate = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.5, 1.0, *([np.nan] * unknown)]), st.just(0.25))
    p = np.array(draw(st.lists(rate, min_size=size, max_size=size)))
    trials = np.array(draw(st.lists(st.integers(0 if unknown else 4, 40), min_size=size, max_size=size)), dtype=float)
    variance = p * (1 - p)
    for i in draw(st.lists(st.integers(0, size - 1), max_size=3)) if unknown else []:
        variance[i] = draw(st.sampled_from([np.nan, -1.0, np.inf, 0.0]))
    lows = st.integers(min_low, min_low + 6)
    count = 1 if same_bounds else size
    low = np.array(draw(st.lists(lows, min_size=count, max_size=count)))
    high = low + np.array(draw(st.lists(st.integers(0, 30), min_size=count, max_size=count)))
    low_N, high_N = np.broadcast_to(low, size), np.broadcast_to(high, size)
    total = draw(st.integers(int(low_N.sum()), int(high_N.sum())))
    stats = PromptStats(trials, p, variance)
    return (stats, total, int(low[0]), int(high[0])) if same_bounds else (stats, total, low_N.copy(), high_N.copy())


@pytest.mark.parametrize(("method", "options"), METHODS, ids=IDS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_sum_is_exact_and_bounds_hold(method: str, options: dict[str, Any], data: st.DataObject) -> None:
    stats, total, low, high = data.draw(instances(MIN_LOW[method]))
    exploration = data.draw(st.one_of(st.none(), st.floats(0, 50)))
    n = allocate(method, stats, total, low, high, exploration=exploration, **options)
    assert n.dtype == np.int64
    assert n.sum() == total
    assert (n >= low).all()
    assert (n <= high).all()
    assert (n == allocate(method, stats, total, low, high, exploration=exploration, **options)).all()


@pytest.mark.parametrize(("method", "options"), METHODS, ids=IDS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_permuting_the_prompts_permutes_the_answer_up_to_ties(
    method: str, options: dict[str, Any], data: st.DataObject
) -> None:
    stats, total, low, high = data.draw(instances(MIN_LOW[method], unknown=False))
    marginal = marginal_gain(method, stats, low, options)
    order = np.array(data.draw(st.permutations(range(len(stats)))))
    n = allocate(method, stats, total, low, high, **options)
    permuted = np.empty_like(n)
    permuted[order] = allocate(method, stats.take(order), total, low[order], high[order], **options)
    moved = np.flatnonzero(n != permuted)
    if len(moved):
        assert np.abs(n - permuted).max() == 1
        gain = marginal(np.minimum(n, permuted)[:, None])[moved, 0]
        tied = np.where(gain < MIN_GAIN, 0.0, gain)
        assert np.ptp(tied) <= 1e-9 * tied.max()


@pytest.mark.parametrize(("method", "options"), BY_PRIORITY)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_higher_priority_never_gets_less(method: str, options: dict[str, Any], data: st.DataObject) -> None:
    stats, total, low, high = data.draw(instances(MIN_LOW[method], same_bounds=True))
    n = allocate(method, stats, total, low, high, **options)
    priority = marginal_gain(method, stats, np.full(len(stats), low), options).params[0]
    known = np.flatnonzero(~np.isnan(priority))
    for i, j in itertools.permutations(known, 2):
        if priority[i] > priority[j] * (1 + 1e-9):
            assert n[i] >= n[j]
        if priority[i] == priority[j]:
            assert abs(n[i] - n[j]) <= 1


@pytest.mark.parametrize(("method", "options"), METHODS, ids=IDS)
@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_equal_prompts_differ_by_at_most_one(method: str, options: dict[str, Any], data: st.DataObject) -> None:
    stats, total, low, high = data.draw(instances(MIN_LOW[method], same_bounds=True))
    n = allocate(method, stats, total, low, high, **options)
    rows = np.nan_to_num(np.column_stack([stats.trials_G, stats.mean_G, stats.variance_G]), nan=-7)
    for i, j in itertools.combinations(range(len(n)), 2):
        if (rows[i] == rows[j]).all():
            assert abs(n[i] - n[j]) <= 1


@pytest.mark.parametrize(("method", "options"), METHODS, ids=IDS)
@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_nobodys_share_falls_when_the_total_grows(method: str, options: dict[str, Any], data: st.DataObject) -> None:
    stats, total, low, high = data.draw(instances(MIN_LOW[method], unknown=False))
    assume(total < high.sum())
    before, after = (allocate(method, stats, t, low, high, **options) for t in (total, total + 1))
    assert (after >= before).all()


def test_no_prompts_get_no_rollouts() -> None:
    empty = PromptStats(np.zeros(0), np.zeros(0), np.zeros(0))
    for method, options in METHODS:
        assert allocate(method, empty, 0, 2, 8, **options).tolist() == []


@pytest.mark.parametrize(
    ("seen", "priority", "total", "low", "high", "released"),
    [([0, 2, 5], [-1, -1, 0.3], 5, 1, 3, [3, 2, 0]), ([4, 1, 3], [0.01, -1, -1], 12, 2, 4, [4, 5, 3])],
)
def test_dynamo_keeps_the_bounds_that_the_release_breaks(
    seen: list[float], priority: list[float], total: int, low: int, high: int, released: list[int]
) -> None:
    stats = PromptStats(np.array(seen), np.full(3, 0.5), np.array(priority))
    n = allocate("dynamo", stats, total, low, high)
    assert n.sum() == total
    assert low <= n.min()
    assert n.max() <= high
    assert min(released) < low or max(released) > high


# Unknown prompts


@pytest.mark.parametrize("unknown", [np.nan, -1.0, np.inf])
def test_an_unknown_prompt_gets_the_mean(unknown: float) -> None:
    stats = PromptStats(np.full(4, 9.0), np.full(4, 0.5), np.array([0.25, 0.01, unknown, unknown]))
    n = allocate("neyman", stats, 40, 2, 40)
    assert n[2:].tolist() == [10, 10]
    assert n[0] > n[1]


def test_exploration_says_how_many_an_unknown_prompt_gets() -> None:
    stats = PromptStats(np.full(4, 9.0), np.full(4, 0.5), np.array([0.25, 0.01, np.nan, np.nan]))
    assert allocate("neyman", stats, 40, 2, 40, exploration=4)[2:].tolist() == [4, 4]
    assert allocate("neyman", stats, 40, 2, 10, exploration=4).tolist() == [10, 10, 10, 10]
    assert allocate("neyman", stats, 10, 2, 40, exploration=30).tolist() == [2, 2, 3, 3]


def test_dynamo_gives_a_prompt_what_it_lacks_of_the_initial_rollouts() -> None:
    stats = stats_from_counts([0, 1, 8], [0, 3, 16])
    assert allocate("dynamo", stats, 24, 1, 24, initial=6).tolist() == [6, 3, 15]


# Errors


@pytest.mark.parametrize(("total", "low", "high"), [(9, 2, 40), (201, 2, 40)])
def test_a_total_out_of_bounds_is_reported_with_all_its_numbers(total: int, low: int, high: int) -> None:
    with pytest.raises(ConfigError) as error:
        allocate("neyman", B1, total, low, high)
    for part in (f"total={total}", f"low={low}", f"high={high}", "G=5", "10 to 200"):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("method", "low", "high", "options", "message"),
    [
        ("neyman", 5, 4, {}, "0 <= low <= high"),
        ("neyman", [2, 2], 40, {}, "shape"),
        ("neyman", 2.0, 40, {}, "whole numbers"),
        ("vip", 1, 40, {}, "allowed 2 or more"),
        ("knapsack", 0, 40, {}, "allowed 1 or more"),
        ("dynamo", 2, 40, {"power": 0.4}, "budget.power: given 0.4, input should be greater than or equal to 0.5"),
        ("vip", 2, 40, {"estimator": "ppo"}, "budget.estimator: given 'ppo', input should be 'rloo' or 'dr_grpo'"),
        ("dynamo", 2, 40, {"pover": 1}, "Did you mean 'power'"),
        (
            "dynamo",
            2,
            40,
            {"decay": 0.5},
            "decay: is no option of dynamo. Allowed: power, mastery, floor",
        ),
        ("neyman", 2, 40, {"power": 1}, "budget.power: neyman has no such option, only dynamo"),
        ("neyman", 2, 40, {"exploration": -1}, "budget.exploration: given -1, "),
        ("neymann", 2, 40, {}, "Did you mean 'neyman'"),
        ("neyman", 2, 40, {"unit": "token"}, "budget.unit: given 'token', input should be 'rollouts' or 'tokens'"),
        ("neyman", 2, 40, {"unit": "tokens"}, "no prompt has a response length"),
    ],
)
def test_wrong_settings_are_refused(method: str, low: Any, high: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        allocate(method, B1, 80, low, high, **options)


def test_methods_that_need_a_rate_refuse_another_mean() -> None:
    stats = PromptStats(np.full(2, 9.0), np.array([0.5, 3.0]), np.array([0.25, 1.0]))
    for method in ("knapsack", "gvm"):
        with pytest.raises(ConfigError, match="success rates"):
            allocate(method, stats, 20, 2, 18)


# Tokens


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_tokens_are_spent_to_within_one_rollout_and_never_exceeded(data: st.DataObject) -> None:
    method, options = data.draw(st.sampled_from(METHODS).filter(lambda drawn: not CONFIGS[drawn[0]].has_pilot))
    stats, _, low, high = data.draw(instances(MIN_LOW[method]))
    lengths = st.one_of(st.floats(1, 5000), st.just(np.nan))
    length = np.array(data.draw(st.lists(lengths, min_size=len(stats), max_size=len(stats))))
    assume(not np.isnan(length).all())
    stats = PromptStats(stats.trials_G, stats.mean_G, stats.variance_G, response_length_G=length)
    cost = np.where(np.isnan(length), np.nanmean(length), length)
    total = data.draw(st.integers(int(np.ceil(low @ cost)), int(np.ceil(high @ cost)) + 9))
    n = allocate(method, stats, total, low, high, unit="tokens", **options)
    assert (n >= low).all()
    assert (n <= high).all()
    assert n @ cost <= total * (1 + 1e-12)
    assert (n @ cost + cost[n < high] > total * (1 - 1e-12)).all()


def test_neyman_in_tokens_divides_by_sigma_over_root_length() -> None:
    stats = stats_from_rates([0.5, 0.5, 0.1], response_length_G=np.array([100.0, 400.0, 100.0]))
    n = allocate("neyman", stats, 120_000, 1, 10_000, unit="tokens")
    expected = np.sqrt(stats.variance_G / np.array([100, 400, 100]))
    assert n / n.sum() == pytest.approx(expected / expected.sum(), abs=2e-3)


def test_tokens_go_in_order_of_gain_per_token_and_skip_what_is_too_expensive() -> None:
    """Against handing out one rollout at a time."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        variance, length = rng.random(6), rng.integers(1, 40, 6).astype(float)
        stats = PromptStats(np.full(6, 9.0), np.full(6, 0.5), variance, length)
        total = int(rng.integers(2 * length.sum(), 9 * length.sum()))
        n, left = np.full(6, 2), total - 2 * length.sum()
        while ((length <= left) & (n < 9)).any():
            gain = np.where((length <= left) & (n < 9), variance / (n * (n + 1)) / length, -1)
            n[gain.argmax()] += 1
            left -= length[gain.argmax()]
        assert allocate("neyman", stats, total, 2, 9, unit="tokens").tolist() == n.tolist()


def test_a_far_upper_bound_costs_nothing_until_a_prompt_gets_near_it() -> None:
    stats = PromptStats(np.full(3, 9.0), np.full(3, 0.5), np.array([1.0, 1e-12, 1e-12]))
    assert allocate("neyman", stats, 10_000, 2, 10**9).tolist() == [9996, 2, 2]
    assert allocate("uniform", stats, 10_000, 2, 10**9).tolist() == [3334, 3333, 3333]


def test_gains_too_flat_for_floats_are_shared_in_turn() -> None:
    stats = PromptStats(np.full(3, 9.0), np.array([1e-20, 1e-20, 0.0]), np.zeros(3))
    assert allocate("knapsack", stats, 30, 2, 40).tolist() == [14, 14, 2]


def test_the_budget_package_imports_neither_torch_nor_ray_nor_verl() -> None:
    code = (
        "import pkgutil, importlib, sys, mrpo.budget, mrpo.config.budget\n"
        "for m in pkgutil.walk_packages(mrpo.budget.__path__, 'mrpo.budget.'): importlib.import_module(m.name)\n"
        "assert len([m for m in sys.modules if m.startswith('mrpo.budget.allocators.')]) == 8\n"
        "bad = {'torch', 'ray', 'verl', 'vllm'} & set(sys.modules)\n"
        "sys.exit(f'imported {bad}' if bad else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
