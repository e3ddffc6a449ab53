"""The one call from rewards to advantages: estimator, then batch norm, then clipping.

Shapes: N rollouts, K rewards, G prompt groups.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from mrpo.advantages.batch import RewardBatch
from mrpo.advantages.batch_norm import batch_normalize
from mrpo.advantages.diagnostics import describe_advantages, describe_rewards
from mrpo.advantages.estimators import ESTIMATORS
from mrpo.advantages.result import AdvantageResult, Estimate
from mrpo.advantages.shrinkage import GroupHistory
from mrpo.config.advantage import AdvantageConfig, as_config
from mrpo.config.estimators import ESTIMATOR_CONFIGS


def compute_advantages(
    rewards_NK: Tensor,
    group_ids_N: Tensor,
    config: AdvantageConfig | Mapping[str, Any],
    *,
    lengths_N: Tensor | None = None,
    history: GroupHistory | None = None,
    truncated_N: Tensor | None = None,
) -> AdvantageResult:
    """Sequence-level advantages of one estimator, computed in float64.

    Args:
        rewards_NK: one column per reward, in the order of the config's names; rows in any order. NaN: missing or not
            applicable; it is left out of all statistics and contributes nothing. An infinite reward is an error.
        group_ids_N: integers; rows with the same one answer the same prompt. Groups may differ in size.
        config: settings, or a mapping of them: ``estimator`` and its options (``mrpo.config.estimators``), and
            ``names``, ``weights``, ``ranges``, ``noise_variance``, ``conditions`` of the rewards.
        lengths_N: response tokens in the loss per rollout; needed where the batch norm counts tokens. A rollout with
            0 gets advantage 0.
        history: what the groups' prompts have earned before, for ``shrinkage``.
        truncated_N: True where the response reached its limit before its end; needed with ``truncated: mask``. Those
            rows then leave the loss, and the others get what they would get in a batch without them.

    Raises:
        ConfigError: a setting is wrong, or missing for these rewards.
        ValueError: an array has the wrong shape, dtype or values.

    Two prompts of two rollouts each; the second reward is missing in one of them:

    >>> rewards_NK = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.5], [0.0, float("nan")]])
    >>> group_ids_N = torch.tensor([7, 7, 9, 9])
    >>> settings = {"estimator": "grpo", "names": ["correct", "format"], "weights": {"correct": 1.0, "format": 0.5}}
    >>> result = compute_advantages(rewards_NK, group_ids_N, settings)
    >>> result.advantages_N
    tensor([ 0.7071, -0.7071,  0.7071, -0.7071])
    >>> result.diagnostics["reward/format/missing_share"]
    0.25
    """
    settings = as_config(config)
    if settings.algorithm.truncated == "mask":
        return _masked(rewards_NK, group_ids_N, settings, lengths_N, history, truncated_N)
    batch = RewardBatch.prepare(rewards_NK, group_ids_N, settings, lengths_N, history)
    return _finish(batch, describe_rewards(batch), rewards_NK.dtype)


def _masked(
    rewards_NK: Tensor,
    group_ids_N: Tensor,
    settings: AdvantageConfig,
    lengths_N: Tensor | None,
    history: GroupHistory | None,
    truncated_N: Tensor | None,
) -> AdvantageResult:
    """The result of the rows that aren't truncated, at their places among all. Taking rows out, rather than calling
    their scores missing, is the same under every preset, also one that counts a missing score as 0."""
    rows = (len(rewards_NK),)
    if truncated_N is None or truncated_N.dtype != torch.bool or tuple(truncated_N.shape) != rows:
        given = "none" if truncated_N is None else f"{truncated_N.dtype} of shape {tuple(truncated_N.shape)}"
        raise ValueError(f"truncated_N: given {given}, but truncated 'mask' leaves rows out. Allowed: bool {rows}.")
    kept_N = ~truncated_N
    lengths = None if lengths_N is None else lengths_N[kept_N]
    if history is not None:
        history = history.rows(torch.isin(group_ids_N.unique(), group_ids_N[kept_N]))
    batch = RewardBatch.prepare(rewards_NK[kept_N], group_ids_N[kept_N], settings, lengths, history)
    result = _finish(batch, describe_rewards(batch), rewards_NK.dtype)

    def among_all(values: Tensor, other: float) -> Tensor:
        return values.new_full(rows, other).masked_scatter(kept_N, values)

    return AdvantageResult(
        advantages_N=among_all(result.advantages_N, 0.0),
        keep_N=among_all(result.keep_N, False),
        diagnostics=result.diagnostics,
        loss_weights_N=None if result.loss_weights_N is None else among_all(result.loss_weights_N, 1.0),
    )


def compute_each(
    rewards_NK: Tensor,
    group_ids_N: Tensor,
    config: AdvantageConfig | Mapping[str, Any],
    estimators: Iterable[str],
    *,
    lengths_N: Tensor | None = None,
) -> dict[str, AdvantageResult]:
    """``compute_advantages`` by several estimators, each with those of the given options that it has. What they share
    is computed once."""
    batch = RewardBatch.prepare(rewards_NK, group_ids_N, as_config(config), lengths_N)
    shared: dict[bool, tuple[RewardBatch, dict[str, float]]] = {}
    results = {}
    for name in estimators:
        scaled = bool(batch.config.ranges) and ESTIMATOR_CONFIGS[name].scale_dependent
        if scaled not in shared:
            first = batch.for_estimator(name)
            shared[scaled] = first, describe_rewards(first)
        seen, about_rewards = shared[scaled]
        results[name] = _finish(seen.for_estimator(name), about_rewards, rewards_NK.dtype)
    return results


def _finish(batch: RewardBatch, about_rewards: dict[str, float], dtype: torch.dtype) -> AdvantageResult:
    algorithm = batch.config.algorithm
    if algorithm.scale_dependent:
        batch.require_unit_scale()
    estimate = ESTIMATORS[algorithm.estimator](batch)
    summed_N = estimate.contributions_NK.sum(dim=1)
    dropped_N = torch.zeros_like(batch.scored_N) if estimate.dropped_N is None else estimate.dropped_N
    zero_advantage_N = ~batch.scored_N | dropped_N
    if batch.conventions.zero_variance_gets_zero or algorithm.exclude_zero_variance:
        zero_advantage_N |= batch.zero_variance_N
    if batch.lengths_N is not None:
        zero_advantage_N |= batch.lengths_N == 0
    unclipped_N = _batch_norm(batch, estimate, summed_N, dropped_N).masked_fill(zero_advantage_N, 0.0)
    advantages_N = unclipped_N if algorithm.clip is None else unclipped_N.clamp(-algorithm.clip, algorithm.clip)
    dtype = dtype if dtype.is_floating_point else torch.get_default_dtype()
    return AdvantageResult(
        advantages_N=advantages_N.to(dtype),
        keep_N=batch.scored_N if estimate.keep_dropped else batch.scored_N & ~dropped_N,
        diagnostics=about_rewards | describe_advantages(batch, estimate, dropped_N, unclipped_N, advantages_N),
        loss_weights_N=None if estimate.loss_weights_N is None else estimate.loss_weights_N.to(dtype),
    )


def _batch_norm(batch: RewardBatch, estimate: Estimate, summed_N: Tensor, dropped_N: Tensor) -> Tensor:
    algorithm = batch.config.algorithm
    unit: str = algorithm.batch_norm
    if unit == "auto":
        unit = "none" if estimate.batch_norm == "none" else batch.conventions.batch_norm
    if unit == "none":
        return summed_N
    counted_N = batch.scored_N & ~dropped_N
    if algorithm.exclude_zero_variance:
        counted_N = counted_N & ~batch.zero_variance_N
    if unit == "sequence":
        return batch_normalize(summed_N, counted_N.to(summed_N.dtype), batch.conventions)
    if batch.lengths_N is None:
        raise ValueError(f"lengths_N: given none, but preset {algorithm.preset!r} normalizes over tokens.")
    return batch_normalize(summed_N, (batch.lengths_N * counted_N).to(summed_N.dtype), batch.conventions)
