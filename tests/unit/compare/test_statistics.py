"""Statistics over seeds, checked against SciPy and against what the formulas promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mrpo.compare import statistics as ours

pytestmark = pytest.mark.unit

VALUES = st.lists(st.integers(-50, 50).map(lambda n: n / 10), min_size=3, max_size=7).filter(lambda v: len({*v}) > 1)


@settings(max_examples=25, deadline=None)
@given(VALUES)
def test_intervals_and_t_tests_are_scipys(values: list[float]) -> None:
    found, expected = ours.interval(values), stats.ttest_1samp(values, 0.0)
    assert found is not None
    assert found == pytest.approx((np.mean(values), *expected.confidence_interval(0.95)))
    assert ours.t_p(values) == pytest.approx(expected.pvalue)


@settings(max_examples=25, deadline=None)
@given(VALUES)
def test_the_sign_flip_test_is_the_share_of_signs_that_are_as_extreme(values: list[float]) -> None:
    signs = np.array(np.meshgrid(*[[-1, 1]] * len(values))).reshape(len(values), -1).T
    sums = signs @ np.array(values)
    extreme = np.mean(sums >= abs(sum(values)) - 1e-9)
    assert ours.sign_flip_p(values) == pytest.approx(min(1.0, 2 * extreme))


@settings(max_examples=25, deadline=None)
@given(VALUES)
def test_the_effect_size_is_corrected_for_few_seeds_as_by_hedges(values: list[float]) -> None:
    df = len(values) - 1
    plain = np.mean(values) / np.std(values, ddof=1)
    exact = math.gamma(df / 2) / (math.sqrt(df / 2) * math.gamma((df - 1) / 2))
    assert ours.effect_size(values) == pytest.approx(plain * exact)


def test_differences_without_variance_are_no_certainty() -> None:
    same = [0.1, 0.4 - 0.3, 0.1]  # the second differs in its last bit
    assert ours.t_p(same) is None
    assert ours.effect_size(same) is None
    assert ours.sign_flip_p(same) == 0.25
    assert ours.sign_flip_p([0.0, 0.0, 0.0]) == 1.0


def test_one_seed_and_none_have_no_interval_and_no_test() -> None:
    one, nan = ours.interval([0.5]), [math.nan]
    assert one is not None
    assert (one.value, one.low, one.high) == (0.5, None, None)
    assert ours.interval(nan) is ours.sign_flip_p(nan) is ours.t_p(nan) is ours.t_p([0.5]) is None
    assert ours.sign_flip_p([0.5]) == 1.0


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holms_correction_is_between_none_and_bonferronis_and_keeps_the_order(p: list[float]) -> None:
    found = [value for value in ours.holm(p) if value is not None]
    assert len(found) == len(p)
    assert all(given <= value <= min(1, len(p) * given) + 1e-12 for given, value in zip(p, found, strict=True))
    assert [found[n] for n in np.argsort(p, kind="stable")] == sorted(found)


def test_holms_correction_of_a_textbook_example() -> None:
    assert ours.holm([0.01, 0.04, None, 0.03, 0.005]) == pytest.approx([0.03, 0.06, None, 0.06, 0.02])


@pytest.mark.parametrize("seeds", range(1, 9))
def test_what_is_undecidable_is_so_for_the_clearest_difference(seeds: int) -> None:
    p = ours.sign_flip_p([1.0 + n for n in range(seeds)])
    assert p == pytest.approx(ours.smallest_p(seeds))
    assert ours.decidable([seeds]) == [p is not None and p <= 0.05]


def test_a_comparison_of_few_seeds_makes_others_need_more() -> None:
    assert ours.decidable([6, 3]) == [False, False]
    assert ours.decidable([7, 3]) == [True, False]
    assert ours.decidable([6, 0]) == [True, False]


def test_a_final_value_is_of_the_last_quarter_that_is_compared() -> None:
    x, values = np.arange(1, 9).astype(np.float64), np.array([0, 0, 0, 0, 0, 0.25, np.nan, 0.75])
    assert ours.final(x, values, 8) == 0.75
    assert ours.final(x, values, 6) == 0.125
    assert math.isnan(ours.final(x[:2], values[:2], 8))


def test_a_target_is_reached_by_a_mean_of_steps_and_not_by_one_of_them() -> None:
    x, values = np.arange(1, 7).astype(np.float64), np.array([-1, 0.9, -1, -0.4, np.nan, -0.2])
    assert ours.reached(x, values, 0.5, width=1) == 2
    assert ours.reached(x, values, -0.3, width=2) == 2
    assert ours.reached(x[2:], values[2:], -0.3, width=2) == 6
    assert ours.reached(x, values, 0.5, width=2) is None


def test_the_front_is_of_points_that_none_beats() -> None:
    points = [(-1.0, 3.0), (0.0, 0.0), (0.0, -1.0), (2.0, -2.0), (0.0, 0.0), (math.nan, 9.0)]
    assert ours.pareto_front(points) == [True, True, False, True, True, False]
