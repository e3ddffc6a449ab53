"""How far the rollout engines' log-probabilities are from the trainer's: verl's metrics of it, from pieces of a batch.

verl computes them from arrays that are padded to the longest response. Here each row leaves three sums, and the tokens
four. Shapes: R rows of a piece, S their tokens, one row after another.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

BOUND = 20.0
"""Of a log-ratio, before it is an exponent (verl's ``SAFETY_BOUND``)."""
EPS = 1e-8


@dataclass
class OffPolicy:
    """Sums over the pieces that were added, in float64.

    >>> sums = OffPolicy()
    >>> sums.add(torch.tensor([-0.5, -1.5, -2.0]), torch.tensor([-0.5, -1.0, -2.0]), None, torch.tensor([2, 1]))
    >>> {name: round(value, 4) for name, value in sums.metrics().items() if name in ("kl", "log_ppl_diff_max")}
    {'kl': 0.1667, 'log_ppl_diff_max': 0.25}
    """

    rows: list[Tensor] = field(default_factory=list)
    """Of each piece (3, R): mean log-probability for the trainer and for the engine, and sum of the log-ratio."""
    tokens: Tensor = field(default_factory=lambda: torch.zeros(4, dtype=torch.float64))
    """Number of tokens, and sums of the log-ratio, of k3 and of the squared ratio."""

    def add(self, trainer_S: Tensor, engine_S: Tensor, mask_S: Tensor | None, lengths_R: Tensor) -> None:
        """Take the rows of a piece.

        Args:
            trainer_S: log-probability of each token.
            engine_S: the same, as the engine sampled it.
            mask_S: True where a token is in the loss; None: all are.
            lengths_R: tokens of each row.
        """
        ratio_S = trainer_S - engine_S
        square_S = ratio_S.clamp(-BOUND, BOUND).exp().square()
        columns = torch.stack((torch.ones_like(ratio_S), ratio_S, ratio_S.exp() - ratio_S - 1, square_S))
        of_rows = torch.stack((trainer_S, engine_S, ratio_S, torch.ones_like(ratio_S)))
        if mask_S is not None:
            columns, of_rows = (torch.where(mask_S, values, 0.0) for values in (columns, of_rows))
        self.tokens += columns.sum(dim=1, dtype=torch.float64)
        ends_R = lengths_R.cumsum(0)
        running = torch.nn.functional.pad(of_rows.cumsum(dim=1, dtype=torch.float64), (1, 0))
        trainer_R, engine_R, sum_R, count_R = running[:, ends_R] - running[:, ends_R - lengths_R]
        self.rows.append(torch.stack((trainer_R / (count_R + EPS), engine_R / (count_R + EPS), sum_R)))

    def metrics(self) -> dict[str, float]:
        """verl's names; none without a token in the loss."""
        count, ratio, k3, square = self.tokens.tolist()
        if not count:
            return {}
        trainer_N, engine_N, sum_N = torch.cat(self.rows, dim=1)
        difference_N = engine_N - trainer_N
        measured = {
            "training_ppl": (-trainer_N).exp().mean(),
            "training_log_ppl": (-trainer_N).mean(),
            "kl": -ratio / count,
            "k3_kl": k3 / count,
            "rollout_ppl": (-engine_N).exp().mean(),
            "rollout_log_ppl": (-engine_N).mean(),
            "log_ppl_diff": difference_N.mean(),
            "log_ppl_abs_diff": difference_N.abs().mean(),
            "log_ppl_diff_max": difference_N.max(),
            "log_ppl_diff_min": difference_N.min(),
            "ppl_ratio": difference_N.exp().mean(),
            "chi2_token": square / count - 1,
            "chi2_seq": (2 * sum_N.clamp(-BOUND, BOUND)).exp().mean() - 1,
        }
        return {name: float(value) for name, value in measured.items()}
