"""Where sequence-level advantages become a token tensor: once, at the end. Shapes: N rollouts, T tokens."""

from __future__ import annotations

import torch
from torch import Tensor


def write_tokens(advantages_N: Tensor, mask_NT: Tensor, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """The (N,T) tensor with a rollout's advantage on its mask's tokens and 0 elsewhere, and no other of its size.

    Args:
        advantages_N: one number per rollout.
        mask_NT: 1 or True where a token is in the loss, else 0.

    Raises:
        ValueError: the mask isn't (N,T).

    >>> write_tokens(torch.tensor([0.5, -1.0]), torch.tensor([[1, 1, 0], [0, 1, 1]]))
    tensor([[ 0.5000,  0.5000,  0.0000],
            [-0.0000, -1.0000, -1.0000]])
    """
    if mask_NT.ndim != 2 or mask_NT.shape[0] != advantages_N.shape[0]:
        raise ValueError(
            f"mask_NT: given shape {tuple(mask_NT.shape)}, allowed: ({advantages_N.shape[0]}, T), a row per advantage."
        )
    tokens_NT = torch.empty(mask_NT.shape, dtype=dtype, device=mask_NT.device)
    # In place: the product of an integer mask and floats would make a float copy of the mask first.
    return tokens_NT.copy_(mask_NT).mul_(advantages_N.to(mask_NT.device, dtype)[:, None])


def token_counts(mask_NT: Tensor) -> Tensor:
    """``lengths_N`` of a mask: the tokens of each rollout that are in the loss."""
    return mask_NT.sum(dim=1, dtype=torch.int64)
