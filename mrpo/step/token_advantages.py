"""What the advantages of a batch's tokens are, without their tensor."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch


class TokenAdvantages(NamedTuple):
    """Of the tokens that are in the loss."""

    total: float = 0.0
    largest: float = -math.inf
    smallest: float = math.inf
    tokens: int = 0

    @classmethod
    def of(cls, advantages: torch.Tensor, tokens: torch.Tensor) -> TokenAdvantages:
        """Of rows, or tokens, with so many tokens in the loss each.

        >>> TokenAdvantages.of(torch.tensor([0.5, -1.0, 9.0]), torch.tensor([3, 1, 0]))
        TokenAdvantages(total=0.5, largest=0.5, smallest=-1.0, tokens=4)
        """
        there = advantages[tokens > 0]
        if not len(there):
            return cls()
        total = (advantages.double() * tokens).sum()
        return cls(float(total), float(there.max()), float(there.min()), int(tokens.sum()))

    def __or__(self, other: TokenAdvantages) -> TokenAdvantages:
        extremes = max(self.largest, other.largest), min(self.smallest, other.smallest)
        return TokenAdvantages(self.total + other.total, *extremes, self.tokens + other.tokens)

    def metrics(self) -> dict[str, float]:
        """Mean, max and min; NaN without a token."""
        found = (self.total / self.tokens, self.largest, self.smallest) if self.tokens else (math.nan,) * 3
        return dict(zip(("mean", "max", "min"), found, strict=True))
