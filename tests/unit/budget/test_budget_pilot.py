"""Pilot-Commit: the rest of a step's total goes where pilots vary, all of it, and nowhere else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mrpo.budget.pilot import commit, pilot_variance
from mrpo.config.allocators import PilotCommitBudget

pytestmark = pytest.mark.unit

NAN = float("nan")


def budget(**settings: Any) -> PilotCommitBudget:
    return PilotCommitBudget(**{"low": 4, "high": 32, **settings})


def test_worked_example() -> None:
    """Six prompts of 8 on average, pilots of 4: 24 are left, and three vary, each of which gets 8 more.

    Right in 4 of 4, 1, 3, 0, 2 and 4: the variances are 0, 1/4, 1/4, 0, 1/3 and 0.
    """
    pilots = [[1, 1, 1, 1], [0, 1, 0, 0], [1, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 1], [1, 1, 1, 1]]
    variances = [pilot_variance(pilot) for pilot in pilots]
    assert variances == pytest.approx([0, 1 / 4, 1 / 4, 0, 1 / 3, 0])
    assert commit(variances, 48, budget()).tolist() == [4, 12, 12, 4, 12, 4]
    assert commit(variances, 50, budget()).tolist() == [4, 13, 13, 4, 12, 4]  # what doesn't divide goes to the first
    assert commit(variances, 48, budget(min_variance=0.3)).tolist() == [4, 4, 4, 4, 28, 4]
    assert commit(variances, 48, budget(high=10)).tolist() == [4, 10, 10, 4, 10, 4]  # 6 are left, and nobody's
    assert commit([0.0] * 6, 48, budget()).tolist() == [4] * 6


def test_failed_rollouts_are_made_and_say_nothing() -> None:
    assert pilot_variance([1.0, NAN, NAN, 0.0]) == 0.5
    assert np.isnan(pilot_variance([1.0, NAN, NAN, NAN]))
    assert np.isnan(pilot_variance([]))


def test_of_an_unknown_pilot_nobody_says_that_it_does_not_vary() -> None:
    """It gets the mean, as every allocator gives to unknown prompts, or what ``exploration`` says."""
    assert commit([NAN, 0.3, 0.0, 0.0], 32, budget()).tolist() == [8, 16, 4, 4]
    assert commit([NAN, 0.3, 0.0, 0.0], 32, budget(exploration=4)).tolist() == [4, 20, 4, 4]
    assert commit([NAN, 0.0], 16, budget()).tolist() == [8, 4]


def test_less_than_the_pilots_is_the_pilots() -> None:
    assert commit([0.3, 0.3], 3, budget()).tolist() == [4, 4]
    assert commit([], 0, budget()).tolist() == []


variances = st.lists(st.one_of(st.just(0.0), st.floats(0, 2), st.just(NAN)), min_size=1, max_size=12)


@given(variances, st.integers(2, 6), st.integers(0, 20), st.integers(0, 200), st.floats(0.01, 1))
def test_the_total_is_exact_within_bounds_and_none_goes_below_the_threshold(
    variances: list[float], low: int, room: int, extra: int, threshold: float
) -> None:
    config = budget(low=low, high=low + room, rollouts_per_prompt=low, min_variance=threshold)
    total = low * len(variances) + extra
    n = commit(variances, total, config)
    varies, known = np.array(variances) >= threshold, ~np.isnan(variances)
    assert ((n >= low) & (n <= low + room)).all()
    assert (n[known & ~varies] == low).all()
    assert n.sum() <= total
    if n.sum() < total:  # then nobody who may have more is without
        mean = min(round(total / len(n)), low + room)
        assert (n[varies] == low + room).all()
        assert (n[~known] == mean).all()
    if varies.any():
        assert np.ptp(n[varies]) <= 1


@given(variances, st.randoms())
def test_whoever_comes_in_first_nobody_gets_another_number(variances: list[float], random: Any) -> None:
    """Up to what doesn't divide, which goes to the first of the order: here there is none."""
    order = list(range(len(variances)))
    random.shuffle(order)
    of = [variance for variance in variances if variance >= 0.1]
    total = 4 * len(variances) + 3 * len(of)
    config = budget(exploration=4)
    there = commit(variances, total, config)
    assert commit([variances[i] for i in order], total, config).tolist() == [there[i] for i in order]


def test_the_bias_of_a_pilot_that_decides_and_counts_is_what_is_stated() -> None:
    """Of prompts at p = .1 with pilots of 4 and 12 more: the mean of all is p + (p / (1 - (1 - p)^4) - p) 4 / 16."""
    rng, p, size = np.random.default_rng(0), 0.1, 4
    hits = rng.binomial(size, p, 200_000)
    committed = hits[(hits > 0) & (hits < size)]
    means = (committed + rng.binomial(3 * size, p, len(committed))) / (4 * size)
    pilot_mean = p / (1 - (1 - p) ** size)
    assert (committed / size).mean() == pytest.approx(pilot_mean, rel=0.01)
    assert means.mean() == pytest.approx(p + (pilot_mean - p) * size / (4 * size), rel=0.01)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"low": 1}, "budget.low: given 1, allowed 2 or more with method pilot_commit"),
        ({"rounds": {}}, "budget.rounds: given with method pilot_commit"),
        ({"min_variance": 0}, "greater than 0"),
    ],
)
def test_what_it_can_not_do_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        budget(**settings)
