"""Bootstrap intervals by prompt, paired differences, and pass@k."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mrpo.evaluation.statistics import Interval, mean, paired_difference, pass_at_k, powers_of_two, prompt_means

pytestmark = pytest.mark.unit
SCORES = st.lists(st.floats(-10, 10), min_size=2, max_size=40)


def test_a_prompts_samples_count_once() -> None:
    many, few = [1.0] * 30, [0.0]
    means_G = prompt_means([*many, *few], [0] * 30 + [1], prompts=2)
    assert means_G.tolist() == [1.0, 0.0]
    found = mean(means_G)
    assert found is not None
    assert (found.value, found.low, found.high) == (0.5, 0.0, 1.0)  # two prompts say next to nothing


def test_values_that_are_not_there_are_left_out_and_never_zero() -> None:
    nan = math.nan
    means_G = prompt_means([1.0, nan, nan, 0.5], [0, 0, 1, 2], prompts=4)
    np.testing.assert_array_equal(means_G, [1.0, nan, 0.5, nan])
    found = mean(means_G)
    assert found is not None
    assert found.value == 0.75
    assert mean(np.array([nan, nan])) is None
    assert mean(np.array([nan, 2.0])) == Interval(2.0, None, None)


def test_the_interval_is_scipys_of_the_prompts_means() -> None:
    draw = np.random.default_rng(3)
    values, place = draw.normal(size=200), np.repeat(np.arange(50), 4)
    means_G = prompt_means(values, place, 50)
    found = mean(means_G, seed=7)
    assert found is not None
    wanted = stats.bootstrap((values.reshape(50, 4).mean(axis=1),), np.mean, method="percentile", rng=11)
    assert (found.low, found.high) == pytest.approx(tuple(wanted.confidence_interval), abs=0.02)
    # By the central limit theorem, and not by the narrower interval of 200 independent values.
    half = 1.96 * stats.sem(means_G, ddof=0)
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half), abs=0.02)


def test_clusters_make_the_interval_as_wide_as_it_must_be() -> None:
    """Samples of a prompt are alike: counted as independent, 95 % intervals would hold the truth far less often."""
    draw, held, naive = np.random.default_rng(0), 0, 0
    place = np.repeat(np.arange(40), 8)
    for trial in range(100):
        values = draw.normal(size=40)[place] + 0.3 * draw.normal(size=320)
        found = mean(prompt_means(values, place, 40), seed=trial)
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 0 <= found.high
        naive += abs(values.mean()) < 1.96 * stats.sem(values)
    assert held >= 88
    assert naive < 60


def test_a_paired_difference_is_far_narrower_than_two_intervals() -> None:
    draw = np.random.default_rng(1)
    difficulty = draw.normal(size=60)
    first, second = difficulty, difficulty + 0.2 + 0.05 * draw.normal(size=60)
    found, alone = paired_difference(second, first), mean(second)
    assert found is not None
    assert alone is not None
    assert found.excludes_zero
    assert found.value == pytest.approx(0.2, abs=0.03)
    assert alone.high - alone.low > 5 * (found.high - found.low)  # type: ignore[operator]
    assert not paired_difference(first, first).excludes_zero  # type: ignore[union-attr]


def test_a_difference_takes_only_prompts_that_both_have() -> None:
    found = paired_difference(np.array([1.0, math.nan, 3.0]), np.array([0.0, 9.0, math.nan]))
    assert found == Interval(1.0, None, None)


@given(SCORES, st.integers(0, 3))
def test_an_interval_holds_its_mean_and_stays_within_the_values(scores: list[float], seed: int) -> None:
    found = mean(np.array(scores), seed)
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    assert min(scores) - 1e-9 <= found.low <= found.high <= max(scores) + 1e-9
    assert found == mean(np.array(scores), seed)  # the same seed, the same interval


@given(st.integers(1, 7), st.data())
def test_pass_at_k_is_the_share_of_draws_with_a_success(n: int, data: st.DataObject) -> None:
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    results = [True] * c + [False] * (n - c)
    draws = list(combinations(results, k))
    assert pass_at_k([n], [c], k)[0] == pytest.approx(sum(map(any, draws)) / len(draws))


def test_pass_at_k_of_many_samples_and_of_too_few() -> None:
    # The product of the paper's own code: 1 - prod(1 - k / (n - c + 1 … n)).
    n, c, k = 10_000, 37, 100
    wanted = 1 - np.prod(1 - k / np.arange(n - c + 1, n + 1))
    assert pass_at_k([n], [c], k)[0] == pytest.approx(wanted)
    np.testing.assert_array_equal(pass_at_k([3, 4], [3, 4], 4), [math.nan, 1.0])
    with pytest.raises(ValueError, match="no more successes than samples"):
        pass_at_k([1], [2], 1)


def test_pass_at_one_is_the_mean() -> None:
    np.testing.assert_allclose(pass_at_k([4, 8], [1, 6], 1), [0.25, 0.75])
    assert powers_of_two(8) == [1, 2, 4, 8]
    assert powers_of_two(1) == [1]
