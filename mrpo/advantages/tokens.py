"""Where sequence-level advantages become a token tensor: once, at the end.

Shapes: N rollouts, T tokens of each, S tokens of all, one rollout after another.
"""

from __future__ import annotations

import numpy as np
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


def write_ragged(
    advantages_N: Tensor, mask_S: Tensor | None, lengths_N: Tensor, *, dtype: torch.dtype = torch.float32
) -> Tensor:
    """``write_tokens`` without padding: the (S,) tensor with a rollout's advantage on its mask's tokens, 0 elsewhere.

    Args:
        advantages_N: one number per rollout.
        mask_S: 1 or True where a token is in the loss, else 0. None: all of them are.
        lengths_N: tokens of each rollout, in the loss or not.

    Raises:
        ValueError: the lengths aren't those of N rollouts with S tokens in all.

    >>> write_ragged(torch.tensor([0.5, -1.0]), torch.tensor([1, 1, 0, 1]), torch.tensor([3, 1]))
    tensor([ 0.5000,  0.5000,  0.0000, -1.0000])
    """
    size = int(lengths_N.sum())
    if lengths_N.shape != advantages_N.shape or (mask_S is not None and mask_S.shape != (size,)):
        given = f"{tuple(lengths_N.shape)} with {size} tokens in all"
        wanted = f"{tuple(advantages_N.shape)} with {size if mask_S is None else len(mask_S)}"
        raise ValueError(f"lengths_N: given shape {given}, allowed: {wanted}, a number per advantage.")
    advantages_N = advantages_N.detach().to(lengths_N.device, dtype)
    if advantages_N.is_cpu and dtype.itemsize > 2:  # 16 times as fast; numpy has no bfloat16
        values_S = torch.from_numpy(np.repeat(advantages_N.numpy(), lengths_N.numpy()))
    else:
        values_S = torch.repeat_interleave(advantages_N, lengths_N, output_size=size)
    return values_S if mask_S is None else values_S.mul_(mask_S)


def token_counts(mask_NT: Tensor) -> Tensor:
    """``lengths_N`` of a mask: the tokens of each rollout that are in the loss."""
    return mask_NT.sum(dim=1, dtype=torch.int64)
