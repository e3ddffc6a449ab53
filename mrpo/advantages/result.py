"""What an estimator hands to the steps after it, and what the caller gets.

Shapes: N rollouts, K rewards.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor


@dataclass(frozen=True)
class Estimate:
    """An estimator's answer, before batch norm and clipping. Float64."""

    contributions_NK: Tensor
    """What each reward adds to a rollout's advantage: their sum over K is the advantage. 0 where missing."""
    batch_norm: Literal["sequence", "none"] = "none"
    """The last normalization that the estimator's paper prescribes, used if the config leaves it at ``auto``."""
    dropped_N: Tensor | None = None
    """True: a filter takes the rollout out of the statistics, and its advantage is 0."""
    keep_dropped: bool = False
    """Dropped rollouts stay in the loss with advantage 0, rather than leave it."""
    loss_weights_N: Tensor | None = None
    diagnostics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class AdvantageResult:
    """Sequence-level advantages and how they came about. Rows are the caller's rows, in the caller's order."""

    advantages_N: Tensor
    """One number per rollout, in the rewards' floating dtype; finite; 0 where ``keep_N`` is False."""
    keep_N: Tensor
    """False: the rollout leaves the loss, denominators included (a filter dropped it, or no reward scored it)."""
    diagnostics: dict[str, float]
    """Metrics ready to log; their names are in ``mrpo.advantages.diagnostics``."""
    loss_weights_N: Tensor | None = None
    """Multiply each rollout's policy loss by this. The clipped loss is homogeneous in the advantage, so multiplying
    the advantages does the same. None: all 1."""
