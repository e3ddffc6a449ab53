"""How noisy a reward is, measured by scoring some responses twice. Shapes: N responses, K rewards."""

from __future__ import annotations

import torch
from torch import Tensor


def noise_variance_from_repeats(first_NK: Tensor, second_NK: Tensor) -> Tensor:
    """Variance (K,) of each reward's scoring noise, in its units squared: mean((first - second)^2) / 2.

    Unbiased if the two scorings of a response err independently with mean equal errors. Pairs with a NaN are left out;
    a reward without a complete pair is an error, since nothing was measured."""
    if first_NK.shape != second_NK.shape or first_NK.ndim != 2:
        raise ValueError(
            f"second_NK: given shape {tuple(second_NK.shape)}, allowed: (N, K), the shape of first_NK, "
            f"which is {tuple(first_NK.shape)}."
        )
    difference_NK = first_NK.to(torch.float64) - second_NK.to(torch.float64)
    pairs_NK = ~difference_NK.isnan()
    pairs_K = pairs_NK.sum(dim=0)
    if bool((pairs_K == 0).any()):
        column = int((pairs_K == 0).nonzero()[0])
        raise ValueError(f"first_NK, second_NK: column {column} has no response scored twice; at least one is needed.")
    return difference_NK.masked_fill(~pairs_NK, 0.0).square().sum(dim=0) / (2 * pairs_K)
