"""Token-level modulation of advantages. DynaMO, arXiv 2602.19208 (formulas of the released code).

g = p (log p + H), p the sampled token's probability, H the entropy of its distribution
Xi = |xi (g - mean of g over the sequence)|, xi = r A where the clipped objective still has a gradient, else 0
beta_stab = lambda_min + (1 - lambda_min) / (1 + exp(gamma (Xi / max Xi - tau)))     damps extreme entropy changes
beta_comp = 1 + (mu_max - 1) (H_max - H) / (H_max - H_min) if A > 0 else 1            boosts confident good tokens
A' = A beta_comp beta_stab

The released code takes the maxima over a micro-batch, so its result depends on the split. Here they are the caller's:
take ``token_extremes`` of every micro-batch of the mini-batch, their elementwise maximum, all-reduced by max over the
ranks, and hand that in. Shapes: N rollouts, T tokens.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mrpo.config.advantage import TokenModulation

EPS = 1e-8


def modulate_tokens(
    advantages_NT: Tensor,
    entropy_NT: Tensor,
    logp_NT: Tensor,
    old_logp_NT: Tensor,
    mask_NT: Tensor,
    settings: TokenModulation | None = None,
    *,
    reduce_max: Callable[[Tensor], Tensor] = lambda extremes: extremes,
) -> Tensor:
    """A' (N,T), without gradient. Masked tokens keep their advantage and, whatever they hold, affect no other.

    ``reduce_max`` turns this call's ``token_extremes`` (3,) into those of the whole mini-batch, over micro-batches and
    ranks, by elementwise maximum; by default this call is the whole mini-batch."""
    settings = settings or TokenModulation()
    inputs = (advantages_NT, entropy_NT, logp_NT, old_logp_NT, mask_NT)
    with torch.no_grad():
        change_NT = _entropy_change(*inputs, settings)
        change_max, entropy_max, entropy_min = _named(reduce_max(_extremes(change_NT, entropy_NT, mask_NT)))
        share_NT = change_NT / (change_max + EPS)
        damping_NT = torch.sigmoid(settings.gamma * (settings.tau - share_NT))
        stabilizer_NT = settings.lambda_min + (1 - settings.lambda_min) * damping_NT
        confidence_NT = (entropy_max - entropy_NT) / (entropy_max - entropy_min + EPS)
        compensation_NT = torch.where(advantages_NT > 0, 1 + (settings.mu_max - 1) * confidence_NT, 1.0)
        return torch.where(mask_NT.bool(), advantages_NT * compensation_NT * stabilizer_NT, advantages_NT)


def token_extremes(
    advantages_NT: Tensor,
    entropy_NT: Tensor,
    logp_NT: Tensor,
    old_logp_NT: Tensor,
    mask_NT: Tensor,
    settings: TokenModulation | None = None,
) -> Tensor:
    """(max Xi, max H, -min H) over the unmasked tokens: -inf where there are none, so that max combines them."""
    settings = settings or TokenModulation()
    with torch.no_grad():
        change_NT = _entropy_change(advantages_NT, entropy_NT, logp_NT, old_logp_NT, mask_NT, settings)
        return _extremes(change_NT, entropy_NT, mask_NT)


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
    rises_NT = (advantages_NT > 0) & (ratio_NT <= 1 + settings.clip_high)
    falls_NT = (advantages_NT < 0) & (ratio_NT >= 1 - settings.clip_low)
    push_NT = torch.where(rises_NT | falls_NT, ratio_NT * advantages_NT, 0.0)
    slope_NT = (logp_NT.exp() * (logp_NT + entropy_NT)).masked_fill(outside_NT, 0.0)
    slope_mean_N1 = slope_NT.sum(dim=1, keepdim=True) / mask_NT.sum(dim=1, keepdim=True).clamp(min=1)
    return (push_NT * (slope_NT - slope_mean_N1)).abs().masked_fill(outside_NT, 0.0)


def _extremes(change_NT: Tensor, entropy_NT: Tensor, mask_NT: Tensor) -> Tensor:
    candidates_3NT = torch.stack((change_NT, entropy_NT, -entropy_NT))
    return candidates_3NT.masked_fill(~mask_NT.bool(), -torch.inf).flatten(1).amax(dim=1)


def _named(extremes_3: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return extremes_3[0], extremes_3[1], -extremes_3[2]
