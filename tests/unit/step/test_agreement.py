"""A step whose rollouts can't be the trainer's own ends the run; one that merely differs in precision doesn't."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrpo.config.load import validate
from mrpo.step.agreement import SteadyAgreement, is_steadily_above, require_agreement

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


@pytest.mark.parametrize(("dtype", "difference"), [("float32", 0.007), ("bfloat16", 0.045)])
def test_what_is_far_above_rounding_for_three_steps_ends_the_run(dtype: str, difference: float) -> None:
    run = run_of(dtype, dtype)
    differ(run, 1e-7, difference, difference)
    with pytest.raises(RuntimeError, match="with the same weights the two compute something else"):
        differ(run, difference)
