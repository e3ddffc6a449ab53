"""GDPO without the rollouts on which the rewards disagree. GD2PO, arXiv 2606.16771 (formulas of the released code).

A_kj as in GDPO, over a rollout's tokens a_kj = L_j A_kj
conflict_j  = some a_kj > 1e-8 and some a_kj < -1e-8
drop_j      = conflict_j (hard), or conflict_j and |sum_k w_k a_kj| / (sum_k w_k |a_kj| + eps) < tau (snr)
rho_q       = share of prompt q's rollouts kept
A_j         = batch_norm over the kept of rho_q sum_k w_k A_kj

The release has no weights (all 1). Batch norm re-centres: an advantage's sign may differ from its rewards' sum's.
"""

import torch

from mrpo.advantages.batch import RewardBatch
from mrpo.advantages.estimators import ESTIMATORS
from mrpo.advantages.result import Estimate
from mrpo.config.estimators import Gd2poConfig

NEGLIGIBLE = 1e-8
"""Both the released sign threshold and the epsilon of the ratio."""


@ESTIMATORS.register("gd2po")
def gd2po(batch: RewardBatch) -> Estimate:
    options, groups = batch.options(Gd2poConfig), batch.groups
    contributions_NK = batch.weights_K * batch.component_advantages_NK
    drop_N = _conflict(batch)
    if options.mode == "snr":
        drop_N &= _signal_to_noise(batch, contributions_NK) < options.tau
    scored_G = groups.sum(batch.scored_N.double())
    dropped_G = groups.sum(drop_N.double())
    rho_G = torch.where(scored_G > 0, 1 - dropped_G / scored_G.clamp(min=1), 1.0)
    rho_N = groups.rows(rho_G)
    if options.query_weight == "pre_whiten":
        contributions_NK = rho_N[:, None] * contributions_NK
    return Estimate(
        contributions_NK,
        batch_norm="sequence",
        dropped_N=drop_N,
        keep_dropped=options.dropped == "stay",
        loss_weights_N=rho_N if options.query_weight == "loss" else None,
    )


def _token_sums(batch: RewardBatch, advantages_NK: torch.Tensor) -> torch.Tensor:
    return advantages_NK if batch.lengths_N is None else batch.lengths_N[:, None] * advantages_NK


def _conflict(batch: RewardBatch) -> torch.Tensor:
    sums_NK = _token_sums(batch, batch.component_advantages_NK).masked_fill(~batch.valid_NK, 0.0)
    return (sums_NK > NEGLIGIBLE).any(dim=1) & (sums_NK < -NEGLIGIBLE).any(dim=1)


def _signal_to_noise(batch: RewardBatch, contributions_NK: torch.Tensor) -> torch.Tensor:
    sums_NK = _token_sums(batch, contributions_NK)
    return sums_NK.sum(dim=1).abs() / (sums_NK.abs().sum(dim=1) + NEGLIGIBLE)
