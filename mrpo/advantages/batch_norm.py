"""The last normalization, over the whole batch (GDPO, arXiv 2601.05242, Eq. 6). Shapes: N rollouts."""

from __future__ import annotations

import torch
from torch import Tensor

from mrpo.advantages.presets import Conventions


def batch_normalize(advantages_N: Tensor, counts_N: Tensor, conventions: Conventions) -> Tensor:
    """(A - mean) / (std + eps), where rollout j counts ``counts_N[j]`` times: 1 each (sequence) or its tokens.

    The standard deviation is the sample's. Rows with count 0 are outside the statistics. A batch that can't be
    compared (fewer than two counts, or all equal) gets 0."""
    total = counts_N.sum()
    counted_N = advantages_N[counts_N > 0]
    if total < 2 or bool(counted_N.max() == counted_N.min()):
        return torch.zeros_like(advantages_N)
    centred_N = advantages_N - (counts_N * advantages_N).sum() / total
    variance = (counts_N * centred_N.square()).sum() / (total - 1)
    eps = conventions.batch_eps
    scale = (variance + eps).sqrt() if conventions.batch_eps_in_root else variance.sqrt() + eps
    return centred_N / scale
