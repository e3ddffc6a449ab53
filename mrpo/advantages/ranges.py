"""Declared bounds: rewards of different units on one scale. Shapes: N rollouts, K rewards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor


def range_width(name: str, ranges: Mapping[str, tuple[float, float]]) -> float:
    low, high = ranges.get(name, (0.0, 1.0))
    return high - low


def normalize_ranges(rewards_NK: Tensor, names: Sequence[str], ranges: Mapping[str, tuple[float, float]]) -> Tensor:
    """(r_k - low) / (high - low) for each reward with bounds. Linear: a score outside its bounds is not cut off."""
    if not ranges:
        return rewards_NK
    low_K, width_K = bounds(rewards_NK, names, ranges)
    return (rewards_NK - low_K) / width_K


def bounds(like: Tensor, names: Sequence[str], ranges: Mapping[str, tuple[float, float]]) -> tuple[Tensor, Tensor]:
    """Lower bound and width (K,) of each reward, 0 and 1 without bounds, in the dtype of ``like``."""
    low_K = like.new_tensor([ranges.get(name, (0.0, 1.0))[0] for name in names])
    return low_K, like.new_tensor([range_width(name, ranges) for name in names])


def out_of_range_shares(
    rewards_NK: Tensor, names: Sequence[str], ranges: Mapping[str, tuple[float, float]]
) -> dict[str, float]:
    """Share of a reward's rows that lie outside its bounds ([0, 1] if it has none)."""
    bounds = [ranges.get(name, (0.0, 1.0)) for name in names]
    low_K, high_K = rewards_NK.new_tensor(bounds).reshape(-1, 2).unbind(dim=1)
    outside_NK = (rewards_NK < low_K) | (rewards_NK > high_K)
    return dict(zip(names, outside_NK.double().mean(dim=0).tolist(), strict=True))
