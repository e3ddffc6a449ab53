"""Whether engines and trainer hold the same policy: a run whose weights did not arrive must not go on, nor one whose
two sides compute something else from the same weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from mrpo.config.run import RunConfig

MIN_CORRELATION, MIN_DIFFERENCE = 0.5, 0.003
"""Of token probabilities, engine against trainer. Below the first and above the second the weights differ. Agreeing
ones correlate at 1.0 in float32 and above 0.99 in bfloat16; an engine that missed its weights at 0.0, with a mean
difference that a large vocabulary makes small."""
STEADY_STEPS = 3
"""For so many steps a mean difference must stay too large: a single one may be of a step that a fault has troubled."""
RISING_STEPS, RISEN, NOTEWORTHY = 6, 5.0, 0.05
"""A drift: so many steps in a row each with a larger mean difference than before, up to so many times that of the first
steps, and to so large a share of what rounding explains at most."""


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


def is_steadily_above(differences: Sequence[float], bound: float) -> bool:
    """Whether the last ``STEADY_STEPS`` of the steps' mean differences are all above ``bound``.

    >>> is_steadily_above([1e-7, 0.007, 0.007, 0.007], 1e-3), is_steadily_above([0.007, 0.007, 1e-7, 0.007], 1e-3)
    (True, False)
    """
    last = differences[-STEADY_STEPS:]
    return len(last) == STEADY_STEPS and all(difference > bound for difference in last)


def is_drifting(differences: Sequence[float], bound: float) -> bool:
    """Whether the steps' mean differences have risen step by step, far above those of the first: one side doesn't
    learn what the other does, an adapter that never reaches the engines say. Rounding stays about the same.

    Args:
        differences: from the first step on.
        bound: what rounding explains at most.

    >>> is_drifting([1e-7, 2e-7, 1e-6, 5e-6, 2e-5, 6e-5, 1e-4, 2e-4], 1e-3)
    True
    >>> is_drifting([2e-3, 2.1e-3, 2.2e-3, 2.3e-3, 2.4e-3, 2.5e-3, 2.6e-3, 2.7e-3], 3e-2)
    False
    """
    last = differences[-RISING_STEPS - 1 :]
    rising = len(last) > RISING_STEPS and all(a < b for a, b in pairwise(last))
    first = min((known for known in differences[:STEADY_STEPS] if known == known), default=0.0)  # not NaN
    return rising and last[-1] > max(RISEN * first, NOTEWORTHY * bound)


def max_difference(config: RunConfig) -> float | None:
    """``rollout.max_probs_diff``, or what rounding explains; None: anything may be.

    Rounding alone has made 2e-7 in float32, and in bfloat16 .002 on a small model, .006 on large ones. With
    ``rollout.ahead`` the engine's weights are older, and how much that makes is the learning rate's.
    """
    if config.rollout.max_probs_diff is not None or config.rollout.top_p < 1 or config.rollout.ahead > 0:
        return config.rollout.max_probs_diff
    return 0.001 if {config.model.dtype, config.rollout.dtype} == {"float32"} else 0.03


class SteadyAgreement:
    """Notices engine and trainer that correlate, as their weights are about the same, and yet differ: by more than
    rounding, step after step (a token that only one side masks, a sampling option), or by more in each step (an adapter
    that only one of them has, and that learns).

    Owner of ``differences``: each step's mean, of this attempt.
    """

    def __init__(self, config: RunConfig):
        self.bound, self.differences = max_difference(config), list[float]()

    def end_step(self, metrics: Mapping[str, Any]) -> None:
        """Take a step's recorded metrics. Raises RuntimeError if the difference is steadily too large."""
        if self.bound is None or (difference := metrics.get("rollout/probs_diff/mean")) is None:
            return
        self.differences.append(difference)
        if is_drifting(self.differences, self.bound):
            raise RuntimeError(
                f"for {RISING_STEPS} steps the rollout engine's probability of a token has differed from the trainer's "
                f"by more in each, {self.differences[-RISING_STEPS - 1]:.2g} to {difference:.2g} on average: what the "
                "trainer learns doesn't reach the engine as a whole. Is there an adapter that only one of them has?"
            )
        if is_steadily_above(self.differences, self.bound):
            raise RuntimeError(
                f"for {STEADY_STEPS} steps the rollout engine's probability of a token has differed from the trainer's "
                f"by {difference:.2g} on average, and rounding makes less than {self.bound:g} "
                "(rollout.max_probs_diff): with the same weights the two compute something else. Does a setting mask, "
                "scale or adapt on one side only?"
            )
