"""Whether engines and trainer hold the same weights: a run whose weights did not arrive must not go on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MIN_CORRELATION, MIN_DIFFERENCE = 0.5, 0.003
"""Of token probabilities, engine against trainer. Below the first and above the second the weights differ. Agreeing
ones correlate at 1.0 in float32 and above 0.99 in bfloat16; an engine that missed its weights at 0.0, with a mean
difference that a large vocabulary makes small."""


def require_agreement(metrics: Mapping[str, Any]) -> None:
    """Raises RuntimeError if this step's rollouts can't be from the policy that is about to learn from them."""
    correlation = metrics.get("training/rollout_actor_probs_pearson_corr", 1.0)
    difference = metrics.get("training/rollout_probs_diff_mean", 0.0)
    # "not >=" instead of "<": NaN says that one side is constant, which agreeing sides aren't
    if not correlation >= MIN_CORRELATION and difference > MIN_DIFFERENCE:
        raise RuntimeError(
            f"the rollout engine's token probabilities are not the trainer's (correlation {correlation:.2f}, mean "
            f"difference {difference:.4f}): the weights did not arrive"
        )
