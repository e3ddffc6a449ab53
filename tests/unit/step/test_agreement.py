"""A step whose rollouts can't be the trainer's own ends the run; one that merely differs in precision doesn't."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrpo.config.load import validate
from mrpo.step.agreement import SteadyAgreement, is_drifting, is_steadily_above, require_agreement

pytestmark = pytest.mark.unit


def measured(correlation: float, difference: float) -> dict[str, float]:
    return {
        "training/rollout_actor_probs_pearson_corr": correlation,
        "training/rollout_probs_diff_mean": difference,
    }


@pytest.mark.parametrize(("correlation", "difference"), [(-0.04, 0.007), (0.2, 0.3), (math.nan, 0.5)])
def test_old_or_foreign_weights_are_refused(correlation: float, difference: float) -> None:
    with pytest.raises(RuntimeError, match="the weights did not arrive"):
        require_agreement(measured(correlation, difference))


@pytest.mark.parametrize(
    "metrics", [measured(1.0, 1e-7), measured(0.99, 0.01), measured(0.3, 1e-6), measured(math.nan, math.nan), {}]
)
def test_precision_and_steps_without_tokens_pass(metrics: dict[str, float]) -> None:
    require_agreement(metrics)


QUICKSTART = [1.3e-7, 1.4e-7, 1.9e-7, 2.8e-7]
"""A healthy run's lowest and highest means in float32, over 50 steps and some in between."""
MEANS = st.floats(0, 1)


@given(st.lists(MEANS), MEANS)
def test_a_single_good_step_among_the_last_three_is_enough(before: list[float], bound: float) -> None:
    assert not is_steadily_above([*before, bound], bound)
    assert not is_steadily_above([*before, bound, 1.5, 1.5], bound)


@given(st.lists(MEANS), st.floats(0, 0.9))
def test_three_steps_above_are_steady_whatever_was_before(before: list[float], bound: float) -> None:
    assert is_steadily_above([*before, 1.0, 1.0, 1.0], bound)


def run_of(model: str, engine: str, **rollout: Any) -> SteadyAgreement:
    content = {
        "recipe": "test",
        "model": {"path": "m", "dtype": model},
        "data": {"train_files": ["t"], "val_files": ["v"], "train_batch_size": 8},
        "rewards": {"correct": {"function": "r.py:c"}},
        "rollout": {"dtype": engine, **rollout},
    }
    return SteadyAgreement(validate(content))


def differ(run: SteadyAgreement, *differences: float | None) -> None:
    for difference in differences:
        run.end_step({"rollout/probs_diff/mean": difference})


def test_rounding_and_a_troubled_step_are_no_disagreement() -> None:
    differ(run_of("float32", "float32"), *QUICKSTART * 3, 0.0083, *QUICKSTART, math.nan, None)
    differ(run_of("bfloat16", "bfloat16"), *[0.006] * 9)
    differ(run_of("float32", "bfloat16"), *[0.006] * 9)
    differ(run_of("float32", "float32", top_p=0.9), *[0.006] * 9)  # the engine's are those of the nucleus
    differ(run_of("float32", "float32", max_probs_diff=0.01), *[0.006] * 9)
    run_of("float32", "float32").end_step({})  # no engine's probabilities are known


LEARNING = [2e-7, 3e-6, 1.1e-5, 2.4e-5, 4e-5, 6.1e-5, 8.5e-5, 1.2e-4]
"""Of an engine that keeps the base model while the trainer's adapter learns, at a small learning rate."""


def test_a_difference_that_grows_in_each_step_ends_the_run_long_before_it_is_large() -> None:
    run = run_of("float32", "float32")
    differ(run, *LEARNING[:6])
    with pytest.raises(RuntimeError, match=r"by more in each, 2e-07 to 8\.5e-05 on average: what the trainer learns"):
        differ(run, LEARNING[6])


@given(st.lists(st.floats(1e-7, 5e-7), min_size=8), st.floats(1, 4))
def test_rounding_that_grows_with_what_is_sampled_is_no_drift(differences: list[float], growth: float) -> None:
    assert not is_drifting(differences, 1e-3)
    assert not is_drifting(sorted(growth * difference for difference in differences), 1e-3)
    in_bfloat16 = [0.002 + 0.001 * growth * step / len(differences) for step in range(len(differences))]
    assert not is_drifting(in_bfloat16, 0.03)


def test_the_slow_rise_of_a_healthy_run_that_learns_fast_is_no_drift() -> None:
    """Measured: an adapter at a learning rate of .005, whose engines agree to the last digits of float32."""
    measured = [1.25, 1.54, 1.95, 2.26, 2.33, 2.43, 2.66, 2.80]
    differ(run_of("float32", "float32"), *(1e-7 * difference for difference in measured))
    in_bfloat16 = [1.81e-3, 1.86e-3, 2.05e-3, 2.27e-3, 2.28e-3, 2.4e-3, 2.6e-3, 2.8e-3]
    differ(run_of("bfloat16", "bfloat16"), *in_bfloat16)


def test_one_step_that_is_no_larger_breaks_the_rise() -> None:
    assert not is_drifting([*LEARNING[:4], LEARNING[3], *LEARNING[4:]], 1e-3)
    assert is_drifting([math.nan, *LEARNING], 1e-3)


@pytest.mark.parametrize(("dtype", "difference"), [("float32", 0.007), ("bfloat16", 0.045)])
def test_what_is_far_above_rounding_for_three_steps_ends_the_run(dtype: str, difference: float) -> None:
    run = run_of(dtype, dtype)
    differ(run, 1e-7, difference, difference)
    with pytest.raises(RuntimeError, match="with the same weights the two compute something else"):
        differ(run, difference)
