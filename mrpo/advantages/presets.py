"""The numerical conventions in which published implementations of one formula differ, each named.

Read from the paper (arXiv 2601.05242), verl 0.9.1 ``core_algos.py``, TRL 1.16 ``grpo_trainer.py``, NeMo-RL
``advantage_estimator.py`` and ms-swift 4.6 ``rl_core/advantage.py``. Shapes: N rollouts, K rewards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from mrpo.config.estimators import Preset


@dataclass(frozen=True)
class Conventions:
    """How one library computes the formula: its epsilons and its corner cases."""

    name: Preset
    group_eps: float
    """Added to a group's standard deviation before dividing by it."""
    batch_eps: float
    """Added to the batch's standard deviation, or to its variance if ``batch_eps_in_root``."""
    batch_eps_in_root: bool = False
    batch_norm: Literal["sequence", "token"] = "sequence"
    """What an estimator's batch norm counts: each rollout once, or each token once."""
    singleton: Literal["zero", "raw"] = "zero"
    """A group of one: no advantage, or the reward itself."""
    leave_one_out: bool = False
    """Compare a rollout with the others of its group only: their mean, their standard deviation."""
    missing: Literal["ignore", "refuse", "zero"] = "ignore"
    """A missing score: outside all statistics, an error, or a reward of 0."""
    zero_variance_gets_zero: bool = False
    """Zero-variance groups keep exactly 0 through batch norm, whatever the batch's mean."""

    def fill_missing(self, rewards_NK: Tensor, weights_K: Tensor, names: Sequence[str]) -> Tensor:
        if self.missing == "zero":
            return rewards_NK.nan_to_num(nan=0.0)
        if self.missing == "refuse":
            missing_K = rewards_NK.isnan().sum(dim=0) * (weights_K != 0)
            for name, count in zip(names, missing_K.tolist(), strict=True):
                if count:
                    raise ValueError(
                        f"rewards_NK: reward {name!r} is missing in {count} rows. Preset {self.name!r} reproduces code "
                        "that turns the whole batch into NaN then. Allowed: complete rewards, or preset 'paper'."
                    )
        return rewards_NK


CONVENTIONS: dict[str, Conventions] = {
    conventions.name: conventions
    for conventions in (
        Conventions("paper", group_eps=0.0, batch_eps=1e-8, zero_variance_gets_zero=True),
        Conventions(
            "verl",
            group_eps=1e-6,
            batch_eps=1e-8,
            batch_eps_in_root=True,
            batch_norm="token",
            singleton="raw",
            missing="refuse",
        ),
        Conventions("trl", group_eps=1e-4, batch_eps=1e-4),
        Conventions("swift", group_eps=1e-8, batch_eps=1e-8),
        Conventions("nemo", group_eps=1e-6, batch_eps=0.0, leave_one_out=True, missing="zero"),
    )
}
