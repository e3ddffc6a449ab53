"""A batch of scored rollouts, checked and prepared: what every estimator reads.

Shapes: N rollouts, K rewards, G prompt groups.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor

from mrpo.advantages.conditioning import condition_rewards
from mrpo.advantages.distinct import distinct_groups
from mrpo.advantages.group_norm import group_normalize
from mrpo.advantages.groups import Groups, GroupStats, zero_variance_groups
from mrpo.advantages.presets import CONVENTIONS, Conventions
from mrpo.advantages.ranges import bounds, normalize_ranges, out_of_range_shares, range_width
from mrpo.advantages.shrinkage import GroupHistory, shrink
from mrpo.config.advantage import AdvantageConfig
from mrpo.config.estimators import EstimatorConfig, GroupNormConfig
from mrpo.errors import ConfigError

Options = TypeVar("Options", bound=EstimatorConfig)


@dataclass(frozen=True)
class RewardBatch:
    """Rewards in float64 after conditioning; NaN = missing."""

    config: AdvantageConfig
    conventions: Conventions
    given_NK: Tensor
    """The rewards as they came."""
    conditioned_NK: Tensor
    """In the rewards' own units."""
    unit_NK: Tensor
    """The same with declared bounds mapped onto [0, 1]."""
    rounding: float
    """Relative size below which a difference of rewards is rounding of the dtype they came in."""
    weights_K: Tensor
    groups: Groups
    lengths_N: Tensor | None
    """Response tokens in the loss, per rollout."""
    history: GroupHistory | None = None
    """What ``shrinkage`` leans on, in the rewards' own units."""

    @classmethod
    def prepare(
        cls,
        rewards_NK: Tensor,
        group_ids_N: Tensor,
        config: AdvantageConfig,
        lengths_N: Tensor | None,
        history: GroupHistory | None = None,
    ) -> RewardBatch:
        _check_arrays(rewards_NK, group_ids_N, config, lengths_N)
        groups = Groups.of(group_ids_N)
        _check_history(history, groups, config)
        given_NK = rewards_NK.to(torch.float64)
        conventions = CONVENTIONS[config.algorithm.preset]
        weights_K = given_NK.new_tensor([reward.weight for reward in config.rewards])
        filled_NK = conventions.fill_missing(given_NK, weights_K, config.names)
        conditioned_NK = condition_rewards(filled_NK, config.names, config.conditions, config.ranges)
        return cls(
            config=config,
            conventions=conventions,
            given_NK=given_NK,
            conditioned_NK=conditioned_NK,
            unit_NK=normalize_ranges(conditioned_NK, config.names, config.ranges),
            rounding=_rounding(rewards_NK.dtype),
            weights_K=weights_K,
            groups=groups,
            lengths_N=lengths_N,
            history=history,
        )

    def options(self, model: type[Options]) -> Options:
        """The estimator's own options, typed."""
        assert isinstance(self.config.algorithm, model)
        return self.config.algorithm

    @property
    def ddof(self) -> int:
        """Of standard deviations within groups. 1 for an estimator that has none of its own, in what is reported."""
        return self.config.algorithm.ddof if isinstance(self.config.algorithm, GroupNormConfig) else 1

    @cached_property
    def rewards_NK(self) -> Tensor:
        """What the estimator sees: mapped onto [0, 1] if it compares scales, else in the rewards' own units."""
        return self.unit_NK if self.config.algorithm.scale_dependent else self.conditioned_NK

    @cached_property
    def valid_NK(self) -> Tensor:
        """Entries that count: scored, and of a reward whose weight isn't 0."""
        return ~self.conditioned_NK.isnan() & (self.weights_K != 0)

    @cached_property
    def scored_N(self) -> Tensor:
        """False: no reward scored this rollout."""
        return self.valid_NK.any(dim=1)

    @cached_property
    def stats(self) -> GroupStats:
        stats, shrinkage = self.stats_among(self.valid_NK), self.config.algorithm.shrinkage
        if self.history is None or shrinkage is None:
            return stats
        history = self.history.columns(0, len(self.config.names))
        if self.config.algorithm.scale_dependent:
            low_K, width_K = bounds(self.unit_NK, self.config.names, self.config.ranges)
            history = history.mapped(low_K, width_K)
        return shrink(stats, history, shrinkage.strength, self.rewards_NK, self.valid_NK)

    def total_stats(self, stats_G1: GroupStats, total_N1: Tensor) -> GroupStats:
        """Statistics of the rewards' weighted sum, which lean on its history if there is one."""
        shrinkage = self.config.algorithm.shrinkage
        if self.history is None or shrinkage is None:
            return stats_G1
        history = self.history.columns(-1, self.history.trials_GC.shape[1])
        if len(self.config.names) == 1:
            history = history.mapped(self.weights_K.new_zeros(1), 1 / self.weights_K)
        return shrink(stats_G1, history, shrinkage.strength, total_N1, self.scored_N[:, None])

    def stats_among(self, valid_NK: Tensor) -> GroupStats:
        """Statistics of the entries in ``valid_NK``. Zero variance is judged before ranges shift rewards towards 0."""
        zero_variance_GK = zero_variance_groups(self.conditioned_NK, valid_NK, self.groups, self.rounding)
        return GroupStats.of(self.rewards_NK, valid_NK, self.groups, zero_variance_GK)

    @cached_property
    def zero_variance_N(self) -> Tensor:
        """True: no reward varies in the group of this rollout."""
        return self.groups.rows(self.stats.zero_variance_GK.all(dim=1))

    @cached_property
    def component_advantages_NK(self) -> Tensor:
        """Each reward's own advantage within its group, unweighted; 0 where it is missing or doesn't vary."""
        advantages_NK = group_normalize(self.rewards_NK, self.stats, self.conventions, ddof=self.ddof)
        return advantages_NK.masked_fill(~self.valid_NK, 0.0)

    @cached_property
    def density_K(self) -> Tensor:
        """Share of the groups with two valid scores or more in which a reward varies; NaN where there is none."""
        groups_K = (self.stats.count_GK >= 2).sum(dim=0)
        return torch.where(groups_K > 0, (~self.stats.zero_variance_GK).sum(dim=0) / groups_K, torch.nan)

    @cached_property
    def count_K(self) -> Tensor:
        return self.valid_NK.sum(dim=0)

    @cached_property
    def batch_mean_K(self) -> Tensor:
        """Mean over the batch's valid scores, mapped onto [0, 1]; 0 for a reward without any."""
        return self.unit_NK.masked_fill(~self.valid_NK, 0.0).sum(dim=0) / self.count_K.clamp(min=1)

    @cached_property
    def batch_std_K(self) -> Tensor:
        """Population standard deviation over the batch's valid scores, mapped onto [0, 1]."""
        deviations_NK = torch.where(self.valid_NK, self.unit_NK - self.batch_mean_K, 0.0)
        return (deviations_NK.square().sum(dim=0) / self.count_K.clamp(min=1)).sqrt()

    @cached_property
    def noise_variance_K(self) -> Tensor:
        """Declared scoring noise, in units of the rewards after range normalization."""
        ranges = self.config.ranges
        variances = [reward.noise_variance / range_width(reward.name, ranges) ** 2 for reward in self.config.rewards]
        return self.rewards_NK.new_tensor(variances)

    @cached_property
    def distinct_rewards(self) -> int:
        """How many groups differ as multisets of centred rewards, a missing one being a value of its own."""
        return distinct_groups(torch.where(self.valid_NK, self.stats.deviations_NK, torch.inf), self.groups)

    def for_estimator(self, name: str) -> RewardBatch:
        """The same batch for another estimator, and what is known of it already if that sees the rewards alike."""
        config = self.config.for_estimator(name)
        if config.ranges and config.algorithm.scale_dependent != self.config.algorithm.scale_dependent:
            return replace(self, config=config)
        other = copy.copy(self)
        object.__setattr__(other, "config", config)
        return other

    def column(self, name: str) -> int:
        return self.config.names.index(name)

    def require_unit_scale(self) -> None:
        """For scale-dependent estimators: a reward outside [0, 1] needs declared bounds."""
        for name, share in out_of_range_shares(self.given_NK, self.config.names, {}).items():
            if share > 0 and name not in self.config.ranges and self.config.weight(name) > 0:
                raise ConfigError(
                    f"ranges: nothing for reward {name!r}, whose scores leave [0, 1]; {self.config.estimator!r} "
                    f"depends on the rewards' scale. Allowed: ranges: {{{name}: [low, high]}}, its known bounds."
                )


def _rounding(dtype: torch.dtype) -> float:
    """Four units in the last place, at float32's precision for anything coarser: halves are scores, not rounding."""
    precise = dtype == torch.float64 or not dtype.is_floating_point
    return 4 * torch.finfo(torch.float64 if precise else torch.float32).eps


def _check_arrays(rewards_NK: Tensor, group_ids_N: Tensor, config: AdvantageConfig, lengths_N: Tensor | None) -> None:
    if rewards_NK.ndim != 2 or rewards_NK.shape[1] != len(config.names):
        raise ValueError(
            f"rewards_NK: given shape {tuple(rewards_NK.shape)}, allowed: (N, {len(config.names)}), "
            f"a column for each of {list(config.names)}."
        )
    rows = rewards_NK.shape[0]
    for field, array in {"group_ids_N": group_ids_N, "lengths_N": lengths_N}.items():
        if array is not None and tuple(array.shape) != (rows,):
            raise ValueError(
                f"{field}: given shape {tuple(array.shape)}, allowed: ({rows},), one per row of rewards_NK."
            )
    if group_ids_N.is_floating_point() or group_ids_N.is_complex():
        raise ValueError(f"group_ids_N: given dtype {group_ids_N.dtype}, allowed: an integer dtype.")
    if lengths_N is not None and bool((lengths_N < 0).any()):
        raise ValueError(f"lengths_N: given {int(lengths_N.min())}, allowed: 0 or more.")
    if lengths_N is None and config.algorithm.batch_norm == "token":
        raise ValueError("lengths_N: given none, but batch_norm 'token' weighs each rollout by its tokens.")
    infinite_K = rewards_NK.isinf().any(dim=0)
    if bool(infinite_K.any()):
        column = int(infinite_K.nonzero()[0])
        row = int(rewards_NK[:, column].isinf().nonzero()[0])
        raise ValueError(
            f"rewards_NK: reward {config.names[column]!r} is {float(rewards_NK[row, column])} in row {row}, "
            "allowed: a finite number, or NaN for missing."
        )


def _check_history(history: GroupHistory | None, groups: Groups, config: AdvantageConfig) -> None:
    if history is None:
        return
    if config.algorithm.shrinkage is None:
        raise ValueError("history: given, but shrinkage isn't set, so that nothing reads it.")
    rewards = len(config.names)
    shape = (len(groups), rewards + 1 if rewards > 1 else 1)
    if tuple(history.trials_GC.shape) != shape:
        raise ValueError(
            f"history: given shape {tuple(history.trials_GC.shape)}, allowed: {shape}, a row per prompt group and a "
            "column per reward, then one for their weighted sum if there are several."
        )
