"""Token-level modulation of advantages. DynaMO, arXiv 2602.19208 (formulas of the released code).

g = p (log p + H), p the sampled token's probability, H the entropy of its distribution
Xi = |xi (g - mean of g over the sequence)|, xi = r A where the clipped objective still has a gradient, else 0
beta_stab = lambda_min + (1 - lambda_min) / (1 + exp(gamma (Xi / max Xi - tau)))     damps extreme entropy changes
beta_comp = 1 + (mu_max - 1) (H_max - H) / (H_max - H_min) if A > 0 else 1            boosts confident good tokens
A' = A beta_comp beta_stab

The released code takes the maxima over a micro-batch, so its result depends on the split. Here they are over the call:
call it once for a whole batch, or, where that is large, first ``token_maxima`` of each part of it. Shapes: N rollouts,
T tokens.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mrpo.config.estimators import TokenModulation

EPS = 1e-8


class TokenMaxima(NamedTuple):
    """Of the tokens of a batch, what each token is compared with."""

    change: Tensor
    """The largest Xi."""
    entropy: Tensor
    """The largest entropy."""
    negative_entropy: Tensor
    """The smallest entropy, with the other sign."""


def modulate_tokens(
    advantages_NT: Tensor,
    entropy_NT: Tensor,
    logp_NT: Tensor,
    old_logp_NT: Tensor,
    mask_NT: Tensor,
    settings: TokenModulation | None = None,
    maxima: TokenMaxima | None = None,
) -> Tensor:
    """A' (N,T), without gradient. Masked tokens keep their advantage and, whatever they hold, affect no other.

    Args:
        advantages_NT: as ``write_tokens`` makes them.
        entropy_NT: entropy of each token's distribution, in nats.
        logp_NT: log-probability of each sampled token under the policy that is updated.
        old_logp_NT: under the policy that sampled it.
        mask_NT: nonzero: the token is in the loss.
        settings: the strengths; by default the released ones.
        maxima: of the batch that these rollouts are a part of; by default they are all of it.

    Of a good rollout's tokens the confident first one is boosted, the second damped since it changes the entropy most,
    the uncertain third left as it is; the fourth is masked:

    >>> advantages_NT, mask_NT = torch.tensor([[1.0, 1.0, 1.0, 0.0]]), torch.tensor([[1, 1, 1, 0]])
    >>> entropy_NT = torch.tensor([[0.1, 1.0, 2.0, 9.0]])
    >>> logp_NT = torch.tensor([[0.95, 0.5, 0.2, 0.5]]).log()
    >>> modulate_tokens(advantages_NT, entropy_NT, logp_NT, logp_NT, mask_NT)
    tensor([[1.2000, 0.8301, 1.0000, 0.0000]])
    """
    settings = settings or TokenModulation()
    inside_NT = mask_NT.bool()
    with torch.no_grad():
        change_NT = _entropy_change(advantages_NT, entropy_NT, logp_NT, old_logp_NT, mask_NT, settings)
        change_max, entropy_max, negative_entropy_max = maxima or _maxima(change_NT, entropy_NT, inside_NT)
        entropy_min = -negative_entropy_max
        share_NT = change_NT / (change_max + EPS)
        damping_NT = torch.sigmoid(settings.gamma * (settings.tau - share_NT))
        stabilizer_NT = settings.lambda_min + (1 - settings.lambda_min) * damping_NT
        confidence_NT = (entropy_max - entropy_NT) / (entropy_max - entropy_min + EPS)
        compensation_NT = torch.where(advantages_NT > 0, 1 + (settings.mu_max - 1) * confidence_NT, 1.0)
        return torch.where(inside_NT, advantages_NT * compensation_NT * stabilizer_NT, advantages_NT)


def token_maxima(
    advantages_NT: Tensor,
    entropy_NT: Tensor,
    logp_NT: Tensor,
    old_logp_NT: Tensor,
    mask_NT: Tensor,
    settings: TokenModulation | None = None,
    others: TokenMaxima | None = None,
) -> TokenMaxima:
    """What ``modulate_tokens`` compares the tokens of a batch with, of these rollouts and those that ``others`` is of.
    Arguments as there."""
    settings = settings or TokenModulation()
    with torch.no_grad():
        change_NT = _entropy_change(advantages_NT, entropy_NT, logp_NT, old_logp_NT, mask_NT, settings)
        these = _maxima(change_NT, entropy_NT, mask_NT.bool())
        return these if others is None else TokenMaxima(*map(torch.maximum, these, others))


def _entropy_change(
    advantages_NT: Tensor,
    entropy_NT: Tensor,
    logp_NT: Tensor,
    old_logp_NT: Tensor,
    mask_NT: Tensor,
    settings: TokenModulation,
) -> Tensor:
    """Xi (N,T), 0 where masked."""
    outside_NT = ~mask_NT.bool()
    ratio_NT = (logp_NT - old_logp_NT).masked_fill(outside_NT, 0.0).exp()
    rises_NT = (advantages_NT > 0) & (ratio_NT <= 1 + settings.clip_ratio_high)
    falls_NT = (advantages_NT < 0) & (ratio_NT >= 1 - settings.clip_ratio_low)
    push_NT = torch.where(rises_NT | falls_NT, ratio_NT * advantages_NT, 0.0)
    slope_NT = (logp_NT.exp() * (logp_NT + entropy_NT)).masked_fill(outside_NT, 0.0)
    slope_mean_N1 = slope_NT.sum(dim=1, keepdim=True) / mask_NT.sum(dim=1, keepdim=True).clamp(min=1)
    return (push_NT * (slope_NT - slope_mean_N1)).abs().masked_fill(outside_NT, 0.0)


def _maxima(change_NT: Tensor, entropy_NT: Tensor, inside_NT: Tensor) -> TokenMaxima:
    """Over the tokens ``inside_NT``; -inf where there are none."""
    values = torch.stack((change_NT, entropy_NT, -entropy_NT))
    return TokenMaxima(*values.masked_fill(~inside_NT, -torch.inf).flatten(1).amax(dim=1))
