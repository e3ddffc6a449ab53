"""1/n weights: what they make unbiased. Metrics: what they say of a step."""

from __future__ import annotations

import numpy as np
import pytest

from mrpo.budget.metrics import allocation_metrics, mixed_chance, outcome_metrics
from mrpo.budget.stats import PromptStats
from mrpo.budget.weights import effective_sample_size, rollout_weights
from mrpo.errors import ConfigError

pytestmark = pytest.mark.unit


def test_every_prompt_weighs_the_same_and_the_mean_is_one() -> None:
    prompt = np.array([7, 3, 7, 7, 9, 7])
    weight = rollout_weights(prompt)
    assert weight.mean() == pytest.approx(1)
    assert [weight[prompt == p].sum() for p in (3, 7, 9)] == pytest.approx([2, 2, 2])
    assert rollout_weights(np.array([4, 4, 5, 5])).tolist() == [1, 1, 1, 1]
    assert rollout_weights(np.array([], dtype=int)).tolist() == []


def test_reweighting_is_unbiased_where_the_plain_mean_is_not() -> None:
    rng = np.random.default_rng(0)
    n, mean = np.array([1, 4, 16]), np.array([3.0, 1.0, -2.0])
    prompt = np.arange(3).repeat(n)
    values = rng.normal(mean[prompt], 1, (20_000, 21))
    weighted, plain = (values * rollout_weights(prompt)).mean(axis=1), values.mean(axis=1)
    assert weighted.mean() == pytest.approx(mean.mean(), abs=0.02)
    assert plain.mean() == pytest.approx((n * mean).sum() / 21, abs=0.01)
    assert abs(plain.mean() - mean.mean()) > 1


def test_a_baseline_that_includes_the_rollout_shrinks_a_group_by_n_minus_one_over_n() -> None:
    rng = np.random.default_rng(0)
    n = np.array([2, 3, 8])
    prompt = np.arange(3).repeat(n)
    reward = rng.normal(0, 1, (40_000, 13))
    baseline = np.stack([reward[:, prompt == p].mean(axis=1) for p in range(3)], axis=1)[:, prompt]
    product = (reward - baseline) * reward  # expectation 1 with a baseline of the others alone
    assert (product * rollout_weights(prompt) * (n / (n - 1))[prompt]).mean() == pytest.approx(1, abs=0.02)
    assert (product * rollout_weights(prompt)).mean() == pytest.approx((1 - 1 / n).mean(), abs=0.02)


def test_effective_sample_size() -> None:
    assert effective_sample_size(np.ones(8)) == 8
    assert effective_sample_size([1, 0, 0]) == 1
    assert effective_sample_size([]) == 0
    with pytest.raises(ConfigError, match="weight of -1"):
        effective_sample_size([-1, 1])


def test_the_chance_of_a_mixed_group() -> None:
    assert mixed_chance([0.5, 0, 1, 0.5, 7], [2, 9, 9, 0, 2]) == pytest.approx([0.5, 0, 0, 0, np.nan], nan_ok=True)


def test_allocation_metrics_hold_the_histogram_and_the_promise() -> None:
    stats = PromptStats(np.full(4, 9.0), np.array([0.5, 0.1, 0.0, np.nan]), np.array([0.25, 0.09, 0.0, np.nan]))
    metrics = allocation_metrics(np.array([10, 6, 2, 6]), stats)
    assert metrics["budget/rollouts"] == 24
    assert metrics["budget/prompts"] == 4
    assert (metrics["budget/n/min"], metrics["budget/n/median"], metrics["budget/n/max"]) == (2, 6, 10)
    assert metrics["budget/unknown_prompts"] == 0.25
    assert metrics["budget/variance/gain"] == pytest.approx((0.25 / 10 + 0.09 / 6) / ((0.25 + 0.09) / 6))
    assert metrics["budget/zero_signal/uniform"] == pytest.approx(1 - mixed_chance([0.5, 0.1, 0], [6, 6, 6]).mean())
    assert metrics["budget/effective_sample_size"] == pytest.approx(16 / (1 / 10 + 2 / 6 + 1 / 2))


def test_outcome_metrics_compare_with_what_was_predicted() -> None:
    stats = PromptStats(np.full(3, 9.0), np.array([0.5, 0.25, 0.9]), np.array([0.25, 0.1875, 0.09]))
    prompt = np.array([0, 1, 0, 1, 0, 2, 2, 0, 1])
    signal = np.array([1, 0, 0, 0, 1, 1, 1, 0, np.nan])
    n = np.array([4, 3, 2])
    metrics = outcome_metrics(n, stats, prompt, signal)
    assert metrics["budget/zero_signal"] == pytest.approx(2 / 3)
    expected = mixed_chance(stats.mean_G, [3, 3, 3]).sum()
    assert metrics["budget/zero_signal/avoided"] == pytest.approx(1 - expected)
    assert metrics["budget/variance/predicted"] == pytest.approx(stats.variance_G.mean())
    assert metrics["budget/variance/realized"] == pytest.approx((1 / 3 + 0 + 0) / 3)
    assert metrics["budget/variance/correlation"] > 0


def test_metrics_of_nothing_are_few_and_finite() -> None:
    unknown = PromptStats(np.zeros(2), np.full(2, np.nan), np.full(2, np.nan))
    for metrics in (
        allocation_metrics(np.array([3, 3]), unknown),
        outcome_metrics(np.array([3, 3]), unknown, np.array([0, 1]), np.array([np.nan, 1.0])),
        allocation_metrics(np.array([], dtype=int), unknown.take(slice(0, 0))),
    ):
        assert all(np.isfinite(v) for v in metrics.values())
    with pytest.raises(ConfigError, match="3 allocations for 2 prompts"):
        allocation_metrics(np.array([1, 1, 1]), unknown)
