"""What a batch looks like to the estimators, as metrics ready to log: which estimator fits, and why.

| metric | meaning |
|---|---|
| ``reward/<name>/mean`` | mean score, as given |
| ``reward/<name>/missing_share`` | share of rollouts without this score |
| ``reward/<name>/out_of_range_share`` | share outside the declared range (only with one) |
| ``reward/<name>/saturation`` | batch mean's place in the range ([0, 1] if undeclared), clipped to 0..1 |
| ``reward/<name>/zero_variance_share`` | share of groups with two scores or more whose scores are all equal |
| ``reward/<name>/density`` | share of groups with two scores or more in which it varies |
| ``reward/<name>/energy`` | its advantages' sum of squares per rollout of the batch, unweighted |
| ``reward/<name>/energy_ratio`` | their sum of squares over B density (G - 1), for B groups of G: 1 but for epsilons |
| ``reward/<name>/length_correlation`` | with the response's length, within groups (only where lengths are known) |
| ``reward/<name>/covariance`` | with the advantage, of rollouts in the loss: above 0 it rises, to first order |
| ``reward/<name>/forecast`` | the covariance in standard errors over groups: above 2 it rises, below -2 it falls |
| ``reward/<name>/effective_weight`` | share of the rewards' summed root-mean-square contribution to the advantage |
| ``reward/<name>/advantage_share`` | share of the advantage's mean square (negative: works against the rest) |
| ``advantage/correlation/<a>/<b>`` | correlation of two rewards within groups |
| ``advantage/conflict/<a>/<b>`` | share of rollouts that one reward pushes up and the other down |
| ``advantage/conflict_share`` | share of rollouts on which any two rewards disagree |
| ``advantage/zero_variance_share`` | share of zero-variance groups: no reward varies in them |
| ``advantage/distinct_rewards`` | distinct groups, as multisets of centred rewards |
| ``advantage/distinct`` | distinct groups, as multisets of advantages before batch norm |
| ``advantage/collapse`` | 1 - distinct / distinct_rewards: what the estimator no longer distinguishes |
| ``advantage/keep_ratio`` | share of scored rollouts that a filter kept |
| ``advantage/unscored_share`` | share of rollouts without any score |
| ``advantage/dvao_kappa`` | ``dvao``: mean over groups of its scale relative to GRPO, 0 conflict .. 1 accord |
| ``reward/<name>/dara_scale`` | ``dara``: its factor for the reward, 1 for the one that varies most often |
| ``advantage/mean``, ``std``, ``abs_max`` | of the final advantages |
| ``advantage/clipped_share`` | share of rollouts whose advantage was clipped |

A metric with nothing to measure (no such groups, no variance) is absent. Shapes: N rollouts, K rewards, G groups.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mrpo.advantages.batch import RewardBatch
from mrpo.advantages.distinct import distinct_groups
from mrpo.advantages.forecast import covariances
from mrpo.advantages.groups import GroupStats, zero_variance_groups
from mrpo.advantages.ranges import out_of_range_shares
from mrpo.advantages.result import Estimate


def describe_rewards(batch: RewardBatch) -> dict[str, float]:
    """What doesn't depend on the estimator."""
    if not len(batch.groups):
        return {}
    return {**_rewards(batch), **_relations(batch), **_lengths(batch)}


def describe_advantages(
    batch: RewardBatch, estimate: Estimate, dropped_N: Tensor, unclipped_N: Tensor, advantages_N: Tensor
) -> dict[str, float]:
    """What the estimator made of the rewards; ``unclipped_N`` and ``advantages_N`` are the last two steps of it."""
    if not len(batch.groups):
        return {}
    kept_NK = estimate.contributions_NK.masked_fill(dropped_N[:, None], 0.0)
    return {
        **_contributions(batch, kept_NK),
        **_collapse(batch, kept_NK.sum(dim=1)),
        **_forecast(batch, dropped_N, advantages_N),
        **_outcome(batch, dropped_N, unclipped_N, advantages_N),
        **estimate.diagnostics,
    }


def _rewards(batch: RewardBatch) -> dict[str, float]:
    names, stats = batch.config.names, batch.stats
    scored_NK = ~batch.given_NK.isnan()
    comparable_GK = stats.count_GK >= 2
    energy_K = batch.component_advantages_NK.square().sum(dim=0)
    freedom_GK = (stats.count_GK - 1).masked_fill(stats.zero_variance_GK, 0.0)
    columns = {
        "mean": _ratio(batch.given_NK.masked_fill(~scored_NK, 0.0).sum(dim=0), scored_NK.sum(dim=0)),
        "missing_share": (~scored_NK).double().mean(dim=0),
        "saturation": _ratio(batch.batch_mean_K.clamp(0, 1) * batch.count_K, batch.count_K),
        "zero_variance_share": _ratio((stats.zero_variance_GK & comparable_GK).sum(dim=0), comparable_GK.sum(dim=0)),
        "density": batch.density_K,
        "energy": _ratio(energy_K, scored_NK.new_tensor(len(scored_NK), dtype=energy_K.dtype)),
        "energy_ratio": _ratio(energy_K, freedom_GK.sum(dim=0)),
    }
    table = {
        f"reward/{name}/{key}": value for key, values_K in columns.items() for name, value in _named(names, values_K)
    }
    outside = out_of_range_shares(batch.given_NK, names, batch.config.ranges) if batch.config.ranges else {}
    table |= {
        f"reward/{name}/out_of_range_share": share for name, share in outside.items() if name in batch.config.ranges
    }
    return _measured(table)


def _contributions(batch: RewardBatch, contributions_NK: Tensor) -> dict[str, float]:
    size_K = contributions_NK.square().mean(dim=0).sqrt()
    summed_N1 = contributions_NK.sum(dim=1, keepdim=True)
    weight_K = _ratio(size_K, size_K.sum())
    share_K = _ratio((contributions_NK * summed_N1).sum(dim=0), summed_N1.square().sum())
    table = {f"reward/{name}/effective_weight": value for name, value in _named(batch.config.names, weight_K)}
    table |= {f"reward/{name}/advantage_share": value for name, value in _named(batch.config.names, share_K)}
    return _measured(table)


def _relations(batch: RewardBatch) -> dict[str, float]:
    advantages_NK, valid_NK = batch.component_advantages_NK, batch.valid_NK.double()
    both_KK = valid_NK.T @ valid_NK
    squares_KK = advantages_NK.square().T @ valid_NK
    correlation_KK = _ratio(advantages_NK.T @ advantages_NK, (squares_KK * squares_KK.T).sqrt())
    up_NK, down_NK = (advantages_NK > 1e-8).double(), (advantages_NK < -1e-8).double()
    conflict_KK = _ratio(up_NK.T @ down_NK + down_NK.T @ up_NK, both_KK)
    table = {"advantage/conflict_share": float((up_NK.any(dim=1) & down_NK.any(dim=1)).double().mean())}
    for a, first in enumerate(batch.config.names):
        for b, second in enumerate(batch.config.names[:a]):
            table[f"advantage/correlation/{second}/{first}"] = float(correlation_KK[a, b])
            table[f"advantage/conflict/{second}/{first}"] = float(conflict_KK[a, b])
    return _measured(table)


def _lengths(batch: RewardBatch) -> dict[str, float]:
    """As the correlation of two rewards, with the lengths in the place of the other one."""
    if batch.lengths_N is None:
        return {}
    lengths_N1, everywhere_N1 = batch.lengths_N.double()[:, None], batch.scored_N[:, None]
    constant_G1 = zero_variance_groups(lengths_N1, everywhere_N1, batch.groups, rounding=0.0)
    stats = GroupStats.of(lengths_N1, everywhere_N1, batch.groups, constant_G1)
    lengths_N1 = stats.deviations_NK / batch.groups.rows(stats.std_GK(ddof=1)).clamp(min=1e-12)
    advantages_NK, valid_NK = batch.component_advantages_NK, batch.valid_NK.double()
    squares_K = advantages_NK.square().sum(dim=0) * (lengths_N1.square().T @ valid_NK)[0]
    correlation_K = _ratio((lengths_N1.T @ advantages_NK)[0], squares_K.sqrt())
    return _measured(
        {f"reward/{name}/length_correlation": value for name, value in _named(batch.config.names, correlation_K)}
    )


def _forecast(batch: RewardBatch, dropped_N: Tensor, advantages_N: Tensor) -> dict[str, float]:
    found = covariances(batch.given_NK, advantages_N, batch.groups, batch.scored_N & ~dropped_N)
    names = batch.config.names
    table = {f"reward/{name}/covariance": value for name, value in _named(names, found.covariance_K)}
    table |= {f"reward/{name}/forecast": value for name, value in _named(names, found.errors_K)}
    return _measured(table)


def _collapse(batch: RewardBatch, summed_N: Tensor) -> dict[str, float]:
    advantages = distinct_groups(summed_N[:, None], batch.groups)
    return {
        "advantage/distinct_rewards": float(batch.distinct_rewards),
        "advantage/distinct": float(advantages),
        "advantage/collapse": 1 - advantages / batch.distinct_rewards,
    }


def _outcome(batch: RewardBatch, dropped_N: Tensor, unclipped_N: Tensor, advantages_N: Tensor) -> dict[str, float]:
    scored = batch.scored_N.sum()
    table = {
        "advantage/zero_variance_share": float(batch.stats.zero_variance_GK.all(dim=1).double().mean()),
        "advantage/keep_ratio": float(_ratio((batch.scored_N & ~dropped_N).sum(), scored)),
        "advantage/unscored_share": float((~batch.scored_N).double().mean()),
        "advantage/mean": float(advantages_N.mean()),
        "advantage/std": float(advantages_N.std(correction=0)),
        "advantage/abs_max": float(advantages_N.abs().max()),
        "advantage/clipped_share": float((unclipped_N != advantages_N).double().mean()),
    }
    return _measured(table)


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """part / whole, NaN where there is nothing to measure."""
    return torch.where(whole > 0, part / whole, torch.nan)


def _named(names: tuple[str, ...], values_K: Tensor) -> list[tuple[str, float]]:
    return list(zip(names, values_K.tolist(), strict=True))


def _measured(table: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in table.items() if value == value}
