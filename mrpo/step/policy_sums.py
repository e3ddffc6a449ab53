"""How sure the policy is, and how far the rollout engines' log-probabilities are from the trainer's: verl's metrics of
it, from a few sums a row.

verl computes them in the controller, from arrays of all tokens that are padded to the longest response. Here each
trainer rank leaves the sums of its own rows, and the controller adds them up. Shapes: R rows of a rank, S their tokens,
one row after another, M rows of a batch.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

BOUND = 20.0
"""Of a log-ratio, before it is an exponent (verl's ``SAFETY_BOUND``)."""
EPS = 1e-8
ROUNDING = 1e-12
"""Of a mean square: a variance below this part of it is none."""


class PolicySums(NamedTuple):
    """Over the tokens of a row that are in the loss, each float64 (R,). Those with the engine's log-probabilities are
    NaN where these weren't kept."""

    tokens: Tensor
    entropy: Tensor
    """Of the trainer's distributions, in nats."""
    trainer: Tensor
    """Log-probabilities, as the trainer has them."""
    engine: Tensor
    """The same, as the engine sampled them."""
    ratio: Tensor
    """trainer - engine."""
    k3: Tensor
    square: Tensor
    """exp(ratio) squared."""
    p: Tensor
    """Probabilities, as the trainer has them."""
    q: Tensor
    """The same, as the engine sampled them."""
    pp: Tensor
    qq: Tensor
    pq: Tensor
    difference: Tensor
    """|p - q|."""
    difference_square: Tensor
    difference_max: Tensor
    """Not a sum."""

    @classmethod
    def of(cls, rows_MC: Tensor) -> PolicySums:
        """From a row for each row of a batch, as ``torch.stack(sums, dim=1)`` makes them."""
        return cls(*rows_MC.unbind(dim=1))


def policy_sums(
    trainer_S: Tensor, engine_S: Tensor | None, entropy_S: Tensor, mask_S: Tensor, lengths_R: Tensor
) -> PolicySums:
    """The sums of some rows.

    Args:
        trainer_S: log-probability of each token.
        engine_S: the same, as the engine sampled it; None: it wasn't kept.
        entropy_S: of each token's distribution, in nats.
        mask_S: True where a token is in the loss.
        lengths_R: tokens of each row.

    >>> logps = torch.tensor([-0.5, -1.5, -2.0])
    >>> sums = policy_sums(logps, logps, logps, torch.tensor([True, True, False]), torch.tensor([2, 1]))
    >>> sums.tokens.tolist(), sums.trainer.tolist(), sums.difference_max.tolist()
    ([2.0, 0.0], [-2.0, 0.0], [0.0, 0.0])
    """
    engine_S = torch.full_like(trainer_S, math.nan) if engine_S is None else engine_S

    def of_rows(values_S: Tensor, reduce: str = "sum") -> Tensor:
        inside_S = torch.where(mask_S, values_S, 0.0).double()
        return torch.segment_reduce(inside_S, reduce, lengths=lengths_R, initial=0.0)

    ratio_S, p_S, q_S = trainer_S - engine_S, trainer_S.exp(), engine_S.exp()
    difference_S = (p_S - q_S).abs()
    return PolicySums(
        tokens=of_rows(torch.ones_like(trainer_S)),
        entropy=of_rows(entropy_S),
        trainer=of_rows(trainer_S),
        engine=of_rows(engine_S),
        ratio=of_rows(ratio_S),
        k3=of_rows(ratio_S.exp() - ratio_S - 1),
        square=of_rows(ratio_S.clamp(-BOUND, BOUND).exp().square()),
        p=of_rows(p_S),
        q=of_rows(q_S),
        pp=of_rows(p_S.double().square()),
        qq=of_rows(q_S.double().square()),
        pq=of_rows(p_S.double() * q_S),
        difference=of_rows(difference_S),
        difference_square=of_rows(difference_S.double().square()),
        difference_max=of_rows(difference_S, "max"),
    )


def entropy(sums: PolicySums, loss_agg_mode: str, longest: int) -> float:
    """The entropy of a batch, aggregated as its loss is (verl's ``agg_loss``).

    Args:
        loss_agg_mode: verl's name.
        longest: by what ``seq-mean-token-sum-norm`` divides: the longest response's tokens, if nothing else is set.

    Raises:
        ValueError: there is no such mode.
    """
    total, tokens, rows = (float(sum_.sum()) for sum_ in (sums.entropy, sums.tokens, sums.tokens > 0))
    if loss_agg_mode == "token-mean":
        return total / tokens if tokens else math.nan
    if loss_agg_mode == "token-sum":
        return total
    if loss_agg_mode == "seq-mean-token-mean":
        return float((sums.entropy / (sums.tokens + EPS)).sum()) / rows if rows else math.nan
    if loss_agg_mode in ("seq-mean-token-sum", "seq-mean-token-sum-norm"):
        return total / rows / (longest if loss_agg_mode.endswith("norm") else 1) if rows else math.nan
    raise ValueError(f"loss_agg_mode: given {loss_agg_mode!r}, which verl doesn't have.")


def probs_diff(sums: PolicySums) -> dict[str, float]:
    """How far the tokens' probabilities are apart, by verl's names; none where the engine's weren't kept."""
    if sums.q.isnan().any():
        return {}
    count = float(sums.tokens.sum())
    if not count:
        nothing = ("max", "mean", "std")
        return {
            "training/rollout_probs_diff_valid": 0,
            **{f"training/rollout_probs_diff_{name}": math.nan for name in nothing},
            "training/rollout_actor_probs_pearson_corr": math.nan,
        }
    mean, square = float(sums.difference.sum()) / count, float(sums.difference_square.sum())
    variance = max(0.0, square - count * mean**2) / (count - 1) if count > 1 else math.nan
    return {
        "training/rollout_probs_diff_valid": 1,
        "training/rollout_probs_diff_max": float(sums.difference_max.max()),
        "training/rollout_probs_diff_mean": mean,
        "training/rollout_probs_diff_std": math.sqrt(variance),
        "training/rollout_actor_probs_pearson_corr": _correlation(
            *(float(of.sum()) / count for of in (sums.p, sums.q, sums.pp, sums.qq, sums.pq))
        ),
    }


def _correlation(p: float, q: float, pp: float, qq: float, pq: float) -> float:
    """From the means of two variables and of their products; NaN where one is constant."""
    of_p, of_q = pp - p * p, qq - q * q
    if of_p <= ROUNDING * pp or of_q <= ROUNDING * qq:
        return math.nan
    return (pq - p * q) / math.sqrt(of_p * of_q)


def off_policy(sums: PolicySums) -> dict[str, float]:
    """How far the two policies are apart, by verl's names; none without a token in the loss, or where the engine's
    log-probabilities weren't kept."""
    count = float(sums.tokens.sum())
    if not count or sums.engine.isnan().any():
        return {}
    trainer_M, engine_M = (of / (sums.tokens + EPS) for of in (sums.trainer, sums.engine))
    difference_M = engine_M - trainer_M
    measured: dict[str, Any] = {
        "training_ppl": (-trainer_M).exp().mean(),
        "training_log_ppl": (-trainer_M).mean(),
        "kl": -sums.ratio.sum() / count,
        "k3_kl": sums.k3.sum() / count,
        "rollout_ppl": (-engine_M).exp().mean(),
        "rollout_log_ppl": (-engine_M).mean(),
        "log_ppl_diff": difference_M.mean(),
        "log_ppl_abs_diff": difference_M.abs().mean(),
        "log_ppl_diff_max": difference_M.max(),
        "log_ppl_diff_min": difference_M.min(),
        "ppl_ratio": difference_M.exp().mean(),
        "chi2_token": sums.square.sum() / count - 1,
        "chi2_seq": (2 * sums.ratio.clamp(-BOUND, BOUND)).exp().mean() - 1,
    }
    return {name: float(value) for name, value in measured.items()}
