"""A step whose rollouts can't be the trainer's own ends the run; one that merely differs in precision doesn't."""

from __future__ import annotations

import math

import pytest

from mrpo.step.agreement import require_agreement

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
