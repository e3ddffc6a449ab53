"""Whether engines and trainer hold the same policy: a run whose weights did not arrive must not go on, nor one whose
two sides compute something else from the same weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mrpo.config.run import RunConfig

MIN_CORRELATION, MIN_DIFFERENCE = 0.5, 0.003
"""Of token probabilities, engine against trainer. Below the first and above the second the weights differ. Agreeing
ones correlate at 1.0 in float32 and above 0.99 in bfloat16; an engine that missed its weights at 0.0, with a mean
difference that a large vocabulary makes small."""
STEADY_STEPS = 3
"""For so many steps a mean difference must stay too large: a single one may be of a step that a fault has troubled."""


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


def max_difference(config: RunConfig) -> float | None:
    """``rollout.max_probs_diff``, or what rounding explains; None: anything may be.

    Rounding alone has made 2e-7 in float32, and in bfloat16 .002 on a small model, .006 on large ones. With
    ``rollout.ahead`` the engine's weights are older, and how much that makes is the learning rate's.
    """
    if config.rollout.max_probs_diff is not None or config.rollout.top_p < 1 or config.rollout.ahead > 0:
        return config.rollout.max_probs_diff
    return 0.001 if {config.model.dtype, config.rollout.dtype} == {"float32"} else 0.03


class SteadyAgreement:
    """Notices engine and trainer that correlate, as their weights are the same, and differ by more than rounding, step
    after step: a token that only one side masks, an adapter that only one applies, a sampling option.

    Owner of ``differences``: each step's mean, of this attempt.
    """

    def __init__(self, config: RunConfig):
        self.bound, self.differences = max_difference(config), list[float]()

    def end_step(self, metrics: Mapping[str, Any]) -> None:
        """Take a step's recorded metrics. Raises RuntimeError if the difference is steadily too large."""
        if self.bound is None or (difference := metrics.get("rollout/probs_diff/mean")) is None:
            return
        self.differences.append(difference)
        if is_steadily_above(self.differences, self.bound):
            raise RuntimeError(
                f"for {STEADY_STEPS} steps the rollout engine's probability of a token has differed from the trainer's "
                f"by {difference:.2g} on average, and rounding makes less than {self.bound:g} "
                "(rollout.max_probs_diff): with the same weights the two compute something else. Does a setting mask, "
                "scale or adapt on one side only?"
            )
