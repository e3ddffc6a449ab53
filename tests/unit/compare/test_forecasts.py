"""A forecast is held against what the reward then did, and against whoever always says the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mrpo.compare.forecasts import Forecasts, check, forecasts

pytestmark = pytest.mark.unit


def line(step: int, mean: float | None, covariance: float | None = 0.1, errors: float | None = 3.0) -> dict[str, Any]:
    named = {"mean": mean, "covariance": covariance, "forecast": errors}
    return {"step": step, **{f"reward/a/{name}": value for name, value in named.items() if value is not None}}


def run(covariance: list[float], change: list[float], errors: list[float] | None = None) -> Forecasts:
    return Forecasts(*map(np.array, (covariance, errors or [30 * value for value in covariance], change)))


def test_a_change_is_from_the_steps_before_the_forecast_to_those_after_it() -> None:
    means = [0.0, 0.2, 0.1, 0.5, 0.3, 0.9]
    lines = [line(step, mean) for step, mean in enumerate(means, 1)]
    assert forecasts(lines, "a").change_T == pytest.approx([0.1, 0.3, 0.2, 0.4])
    assert forecasts(lines, "a", window=2).change_T == pytest.approx([0.4 - 0.1, 0.6 - 0.15])
    # one step ahead the rollouts of the next step are of the old weights, too
    assert forecasts(lines, "a", ahead=1).change_T == pytest.approx([0.5, 0.1, 0.8])


def test_chance_in_a_step_s_own_rollouts_is_no_success_of_its_forecast() -> None:
    """Around a reward that stays, a step that came out low varies more, has a larger covariance, and is followed by
    better ones: that is no update's doing."""
    mean = 0.9 + np.random.default_rng(0).normal(0, 0.05, 400)
    lines = [line(step, value, covariance=1 - value) for step, value in enumerate(mean.tolist(), 1)]
    found = check([forecasts(lines, "a")])
    assert found.correlation.low < 0 < found.correlation.high


def test_where_a_line_or_a_number_lacks_nothing_is_compared() -> None:
    lines = [line(1, 0.1), line(2, 0.2), line(3, 0.4), line(5, 0.5), line(6, 0.5, covariance=None), line(7, 0.7)]
    assert forecasts([*lines, line(8, None)], "a").change_T == pytest.approx([0.3])  # 1 to 3
    unsure = forecasts([line(1, 0.1), line(2, 0.1, errors=None), line(3, 0.2)], "a")
    assert check([unsure]).said["stays"].steps == 1  # of an error that nobody knows nothing is certain


def test_worked_example() -> None:
    """Of six steps, three are forecast to rise and do so twice, one to fall and does, and two say nothing."""
    found = check([run([0.1, 0.2, 0.1, -0.1, 0.01, -0.02], [0.3, 0.1, -0.1, -0.2, 0.05, 0.1])])
    assert {kind: said.steps for kind, said in found.said.items()} == {"rises": 3, "stays": 2, "falls": 1}
    assert found.said["rises"].change.value == pytest.approx(0.1)
    assert found.said["falls"].change.value == pytest.approx(-0.2)
    assert found.right.value == 3 / 4
    assert found.base == 2 / 4
    assert found.gain.value == 1 / 4
    assert found.right.low <= found.right.value <= found.right.high


def test_forecasts_of_a_reward_that_only_rises_are_right_and_say_nothing_new() -> None:
    found = check([run([0.1] * 40, [0.02] * 40)] * 2)
    assert found.right == (1.0, 1.0, 1.0)
    assert found.base == 1.0
    assert found.gain == (0.0, 0.0, 0.0)
    assert np.isnan(found.correlation.value)


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_only_forecasts_that_mean_something_are_right_above_the_base(strength: float) -> None:
    rng = np.random.default_rng(0)
    runs = []
    for _ in range(5):
        covariance = rng.normal(0, 0.1, 100)
        runs.append(run(list(covariance), list(strength * covariance + rng.normal(0, 0.1, 100))))
    found = check(runs)
    assert (found.gain.low > 0.1) == (strength > 0)
    assert (found.correlation.low > 0.3) == (strength > 0)
    if strength == 0:
        assert found.correlation.low < 0 < found.correlation.high
        assert found.gain.low < 0


def test_without_forecasts_nothing_is_right_or_wrong() -> None:
    found = check([run([], []), run([0.001] * 3, [0.1, 0.2, 0.1])])
    assert found.said["rises"].steps == 0
    assert np.isnan(found.right.value)
    assert np.isnan(found.base)
    assert np.isnan(check([run([], [])]).correlation.value)


def test_intervals_count_blocks_of_steps_and_not_single_ones() -> None:
    """Noise that comes in blocks of twenty is as uncertain as that of a twentieth of the steps."""
    rng = np.random.default_rng(1)
    change = np.repeat(rng.normal(0, 1, 20), 20)
    alone, blocks = (check([run([0.1] * 400, list(change))], window).said["rises"].change for window in (1, 5))
    assert blocks.high - blocks.low > 1.5 * (alone.high - alone.low)
