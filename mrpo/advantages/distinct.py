"""Counting groups that differ: what a batch offers, and what an estimator still distinguishes of it.

Shapes: N rollouts, ``X`` any number of columns.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mrpo.advantages.groups import Groups

DIGITS = 9
"""Decimals, relative to the largest value, to which numbers count as equal."""


def distinct_groups(values_NX: Tensor, groups: Groups) -> int:
    """How many groups differ as multisets of rows, numbers compared to ``DIGITS`` digits.

    Each row is hashed, and a group is the sum of its rows' hashes: no sorting, no loop."""
    finite_NX = values_NX.masked_fill(values_NX.isinf(), 0.0)
    scale = finite_NX.abs().amax().clamp(min=1e-300)
    digits_NX = (finite_NX / scale * 10**DIGITS).round().to(torch.int64)
    digits_NX = torch.where(values_NX.isinf(), 10 ** (DIGITS + 2), digits_NX)
    hash_N = torch.full_like(groups.index_N, 0x2545F491)
    for column in digits_NX.unbind(dim=1):
        hash_N = _mix(hash_N ^ column)
    return len(torch.unique(groups.sum(hash_N)))


def _mix(bits_N: Tensor) -> Tensor:
    """Spread each number over 64 bits (splitmix64's steps; the shifts are arithmetic, which only needs to be fixed)."""
    bits_N = (bits_N ^ (bits_N >> 30)) * -0x40A7B892E31B1A47
    bits_N = (bits_N ^ (bits_N >> 27)) * -0x6B2FB644ECCEEE15
    return (bits_N ^ (bits_N >> 31)) + 0x1E3779B97F4A7C15
