"""Importance weights of tokens that an older policy has sampled: verl's rule ``rollout_is=token`` and its metrics.

verl makes them in the controller, from arrays of all tokens that are padded to the longest response. Here each trainer
rank weighs the tokens of its own rows and leaves a few sums, as of ``policy_sums``, which the controller adds up.
Shapes: R rows of a rank, S their tokens, one row after another, M rows of a batch.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from mrpo.step.policy_sums import BOUND, EPS

Threshold = str | float
"""A larger weight is cut to it; ``"lower_upper"``: outside, a weight is 0."""


class WeightSums(NamedTuple):
    """Over the tokens of a row that are in the loss, each float64 (R,)."""

    weight: Tensor
    square: Tensor
    highest: Tensor
    """Not a sum; -infinity without a token."""
    lowest: Tensor
    """Not a sum; infinity without a token."""
    ratio: Tensor
    """What the weights are made of, neither cut nor 0."""
    above: Tensor
    """Tokens whose ratio is above the upper bound."""
    below: Tensor
    """Tokens whose ratio is below the lower bound, or below one over the upper, where there is none."""

    @classmethod
    def of(cls, rows_MC: Tensor) -> WeightSums:
        """From a row for each row of a batch, as ``torch.stack(sums, dim=1)`` makes them."""
        return cls(*rows_MC.unbind(dim=1))


def token_weights(
    log_ratio_S: Tensor, mask_S: Tensor, lengths_R: Tensor, threshold: Threshold
) -> tuple[Tensor, WeightSums]:
    """The weight of each token, 0 outside the loss, and the sums of the rows.

    Args:
        log_ratio_S: log-probability of each token as the trainer has it, less that by which it was sampled.
        mask_S: True where a token is in the loss.
        lengths_R: tokens of each row.

    >>> log_ratio = torch.log(torch.tensor([0.5, 4.0, 9.0]))
    >>> weights, sums = token_weights(log_ratio, torch.tensor([True, True, False]), torch.tensor([2, 1]), 2.0)
    >>> weights.tolist(), sums.above.tolist()
    ([0.5, 2.0, 0.0], [1.0, 0.0])
    """
    lower, upper = _bounds(threshold)
    ratio_S = log_ratio_S.clamp(-BOUND, BOUND).exp() * mask_S
    if lower is None:
        weights_S, least = ratio_S.clamp(max=upper), 1.0 / upper
    else:
        weights_S, least = torch.where((ratio_S >= lower) & (ratio_S <= upper), ratio_S, 0.0), lower

    def of_rows(values_S: Tensor, reduce: str = "sum", outside: float = 0.0) -> Tensor:
        inside_S = torch.where(mask_S, values_S.double(), outside)
        return torch.segment_reduce(inside_S, reduce, lengths=lengths_R, initial=outside)

    return weights_S, WeightSums(
        weight=of_rows(weights_S),
        square=of_rows(weights_S.double().square()),
        highest=of_rows(weights_S, "max", -math.inf),
        lowest=of_rows(weights_S, "min", math.inf),
        ratio=of_rows(ratio_S),
        above=of_rows(ratio_S > upper),
        below=of_rows(ratio_S < least),
    )


def weight_metrics(sums: WeightSums, tokens_M: Tensor, threshold: Threshold) -> dict[str, float]:
    """What the weights of a batch are like, by verl's names; nothing without a token in the loss."""
    lower, upper = _bounds(threshold)
    count = float(tokens_M.sum())
    if not count:
        return {}
    mean, square = float(sums.weight.sum()) / count, float(sums.square.sum()) / count
    above, below = float(sums.above.sum()) / count, float(sums.below.sum()) / count
    mean_M, ratio_M = sums.weight / (tokens_M + EPS), sums.ratio / (tokens_M + EPS)
    return {
        "rollout_is_mean": mean,
        "rollout_is_max": float(sums.highest.max()),
        "rollout_is_min": float(sums.lowest.min()),
        "rollout_is_std": math.sqrt(max(0.0, square - mean**2)) if count > 1 else 0.0,
        "rollout_is_eff_sample_size": min(1.0, mean**2 / square) if square else 0.0,
        "rollout_is_ratio_fraction_high": above,
        "rollout_is_ratio_fraction_low": below,
        "rollout_is_seq_mean": float(mean_M.mean()),
        "rollout_is_seq_std": float(mean_M.std()) if len(mean_M) > 1 else 0.0,
        "rollout_is_seq_max": float(mean_M.max()),
        "rollout_is_seq_min": float(mean_M.min()),
        "rollout_is_seq_max_deviation": float((mean_M - 1).abs().max()),
        "rollout_is_seq_fraction_high": float((ratio_M > upper).double().mean()),
        "rollout_is_seq_fraction_low": float((ratio_M < (1 / upper if lower is None else lower)).double().mean()),
    } | ({} if lower is None else {"rollout_is_oob_ratio": above + below})


def _bounds(threshold: Threshold) -> tuple[float | None, float]:
    lower, _, upper = str(threshold).rpartition("_")
    return float(lower) if lower else None, float(upper)
