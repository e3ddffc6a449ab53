"""The one call from rewards to advantages: estimator, then batch norm, then clipping.

Shapes: N rollouts, K rewards, G prompt groups.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from mrpo.advantages.batch import RewardBatch
from mrpo.advantages.batch_norm import batch_normalize
from mrpo.advantages.diagnostics import describe_advantages, describe_rewards
from mrpo.advantages.estimators import ESTIMATORS
from mrpo.advantages.result import AdvantageResult, Estimate
from mrpo.config.advantage import AdvantageConfig
from mrpo.errors import ConfigError


def compute_advantages(
    rewards_NK: Tensor,
    group_ids_N: Tensor,
    config: AdvantageConfig | Mapping[str, Any],
    *,
    lengths_N: Tensor | None = None,
) -> AdvantageResult:
    """Sequence-level advantages of ``config.estimator``, computed in float64.

    Args:
        rewards_NK: one column per ``config.names``, rows in any order. NaN: missing or not applicable; it is left out
            of all statistics and contributes nothing. An infinite reward is an error.
        group_ids_N: integers; rows with the same one answer the same prompt. Groups may differ in size.
        config: settings, or a mapping of their fields.
        lengths_N: response tokens in the loss per rollout; needed where the batch norm counts tokens. A rollout with
            0 gets advantage 0.

    Raises:
        ConfigError: a setting is wrong, or missing for these rewards.
        ValueError: an array has the wrong shape, dtype or values.
    """
    batch = RewardBatch.prepare(rewards_NK, group_ids_N, as_config(config), lengths_N)
    return _finish(batch, describe_rewards(batch), rewards_NK.dtype)


def compute_each(
    rewards_NK: Tensor,
    group_ids_N: Tensor,
    config: AdvantageConfig | Mapping[str, Any],
    estimators: Iterable[str],
    *,
    lengths_N: Tensor | None = None,
) -> dict[str, AdvantageResult]:
    """``compute_advantages`` by several estimators, every other setting alike. What they share is computed once."""
    batch = RewardBatch.prepare(rewards_NK, group_ids_N, as_config(config), lengths_N)
    about_rewards = describe_rewards(batch)
    return {name: _finish(batch.for_estimator(name), about_rewards, rewards_NK.dtype) for name in estimators}


def _finish(batch: RewardBatch, about_rewards: dict[str, float], dtype: torch.dtype) -> AdvantageResult:
    config = batch.config
    estimate = ESTIMATORS[config.estimator](batch)
    summed_N = estimate.contributions_NK.sum(dim=1)
    dropped_N = torch.zeros_like(batch.scored_N) if estimate.dropped_N is None else estimate.dropped_N
    silent_N = ~batch.scored_N | dropped_N
    if batch.habits.flat_zero or config.exclude_flat:
        silent_N |= batch.flat_N
    if batch.lengths_N is not None:
        silent_N |= batch.lengths_N == 0
    unclipped_N = _batch_norm(batch, estimate, summed_N, dropped_N).masked_fill(silent_N, 0.0)
    advantages_N = unclipped_N if config.clip is None else unclipped_N.clamp(-config.clip, config.clip)
    dtype = dtype if dtype.is_floating_point else torch.get_default_dtype()
    return AdvantageResult(
        advantages_N=advantages_N.to(dtype),
        keep_N=batch.scored_N & ~dropped_N if config.dropped == "leave" else batch.scored_N,
        diagnostics=about_rewards | describe_advantages(batch, estimate, dropped_N, unclipped_N, advantages_N),
        group_ids_G=batch.groups.ids_G,
        group_weights_G=None if estimate.group_weights_G is None else estimate.group_weights_G.to(dtype),
        loss_weights_N=None if estimate.loss_weights_N is None else estimate.loss_weights_N.to(dtype),
    )


def as_config(config: AdvantageConfig | Mapping[str, Any]) -> AdvantageConfig:
    """The typed settings. What is wrong with a mapping is told as a ``ConfigError`` that names the field."""
    if isinstance(config, AdvantageConfig):
        return config
    try:
        return AdvantageConfig.model_validate(dict(config))
    except ValidationError as error:
        told = (_tell(problem) for problem in error.errors())
        raise ConfigError("; ".join(told)) from error


def _tell(problem: Any) -> str:
    own_error = problem.get("ctx", {}).get("error")
    if isinstance(own_error, ConfigError):
        return str(own_error)
    field = ".".join(map(str, problem["loc"]))
    return f"{field}: given {problem['input']!r}, {problem['msg'][0].lower()}{problem['msg'][1:]}."


def _batch_norm(batch: RewardBatch, estimate: Estimate, summed_N: Tensor, dropped_N: Tensor) -> Tensor:
    unit: str = batch.config.batch_norm
    if unit == "auto":
        unit = "none" if estimate.batch_norm == "none" else batch.habits.batch_norm
    if unit == "none":
        return summed_N
    counted_N = batch.scored_N & ~dropped_N
    if batch.config.exclude_flat:
        counted_N = counted_N & ~batch.flat_N
    if unit == "sequence":
        return batch_normalize(summed_N, counted_N.to(summed_N.dtype), batch.habits)
    if batch.lengths_N is None:
        raise ValueError(f"lengths_N: given none, but preset {batch.config.preset!r} normalizes over tokens.")
    return batch_normalize(summed_N, (batch.lengths_N * counted_N).to(summed_N.dtype), batch.habits)
