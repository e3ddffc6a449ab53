"""Signals: which variance of K rewards the allocators see."""

from __future__ import annotations

import numpy as np
import pytest

from mrpo.budget.evidence import Evidence
from mrpo.budget.history import PromptHistory
from mrpo.budget.signal import prompt_stats, simulated
from mrpo.budget.stats import FloatArray, IntArray
from mrpo.errors import ConfigError

pytestmark = pytest.mark.unit


def conflict() -> PromptHistory:
    """Prompt 1: two rewards that always disagree. Prompt 2: two that agree."""
    history = PromptHistory(["right", "short"])
    coin = np.arange(64) % 2
    history.observe(np.ones(64, dtype=int), np.column_stack([coin, 1 - coin]))
    history.observe(np.full(64, 2), np.column_stack([coin, coin]))
    return history


def test_conflicting_rewards_cancel_in_the_total_but_not_per_reward() -> None:
    history, unit = conflict(), 64 / 63 / 4
    assert history.stats([1, 2], signal="total_variance").variance_G == pytest.approx([0, 4 * unit])
    assert history.stats([1, 2], signal="per_reward").variance_G == pytest.approx([2 * unit, 2 * unit])
    assert history.stats([1, 2], signal="bernoulli").variance_G == pytest.approx([0, unit])


def test_per_reward_weighs_by_the_squares() -> None:
    stats = conflict().stats([1], signal="per_reward", weights_K=[3.0, 0.5])
    assert stats.variance_G[0] == pytest.approx((9 + 0.25) * 64 / 63 / 4)


def test_per_reward_knows_a_prompt_for_which_a_reward_doesnt_apply() -> None:
    history = PromptHistory(["right", "short"])
    history.observe([1, 1, 2], np.array([[1, np.nan], [0, np.nan], [np.nan, np.nan]]))
    assert history.stats([1, 2, 3], signal="per_reward").variance_G == pytest.approx([0.5, np.nan, np.nan], nan_ok=True)


def test_total_variance_sees_how_far_above_zero() -> None:
    history = PromptHistory(["score"])
    history.observe(np.repeat([1, 2], 2), np.array([[0.1], [0.9], [0.5], [0.5]]))
    assert history.stats([1, 2]).variance_G.tolist() == [0, 0]
    assert history.stats([1, 2], signal="total_variance").variance_G == pytest.approx([0.32, 0])


def grpo(rewards_NK: FloatArray, group_N: IntArray) -> FloatArray:
    total = rewards_NK.sum(axis=1).reshape(group_N.max() + 1, -1)
    std = total.std(axis=1, keepdims=True)
    return ((total - total.mean(axis=1, keepdims=True)) / np.where(std > 0, std, 1)).reshape(-1)


def test_the_estimator_signal_asks_the_estimator() -> None:
    history = PromptHistory(["right"])
    hits = [1, 32, 60]
    history.observe(np.repeat([1, 2, 3], 64), np.concatenate([np.arange(64) < k for k in hits]).astype(float)[:, None])
    ask = simulated(grpo, draws=4000)
    stats = history.stats([2, 1, 3, 9], signal="estimator", estimator=ask, group_size=8)
    p = np.array([32, 1, 60]) / 64
    assert stats.variance_G[:3] == pytest.approx(1 - p**8 - (1 - p) ** 8, abs=0.03)  # the chance of a mixed group
    assert np.isnan(stats.variance_G[3])


def test_equal_prompts_get_equal_answers_whatever_their_place() -> None:
    evidence = conflict().evidence([2, 1, 2])
    ask = simulated(grpo, draws=16)
    square = ask(evidence, 4)
    assert square[0] == square[2]
    assert ask(conflict().evidence([1, 2]), 4).tolist() == [square[1], square[0]]


def test_a_graded_reward_is_drawn_with_its_moments() -> None:
    history = PromptHistory(["score"])
    history.observe(np.ones(500, dtype=int), np.random.default_rng(0).normal(0.4, 0.2, (500, 1)))
    ask = simulated(lambda rewards, group: rewards[:, 0] - 0.4, draws=4000)
    assert ask(history.evidence([1]), 8)[0] == pytest.approx(0.04, rel=0.1)


def test_a_callable_of_ones_own_serves_as_well() -> None:
    def expected(evidence: Evidence, group_size: int) -> FloatArray:
        return evidence.variance_GC[:, 0] * group_size

    stats = prompt_stats(conflict().evidence([1]), "estimator", estimator=expected, group_size=3)
    assert stats.variance_G[0] == pytest.approx(3 * 64 / 63 / 4)


def test_wrong_signals_are_refused() -> None:
    evidence = conflict().evidence([1])
    with pytest.raises(ConfigError, match="needs the estimator's"):
        prompt_stats(evidence, "estimator")
    with pytest.raises(ConfigError, match="Did you mean 'bernoulli'"):
        prompt_stats(evidence, "bernouli")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"weights of shape \(3,\)"):
        prompt_stats(evidence, "per_reward", weights_K=[1, 1, 1])
