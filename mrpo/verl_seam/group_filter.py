"""Dynamic sampling (``budget.filter_groups``): which finished prompt groups verl's replay buffer replaces.

verl reads one number from every rollout of a group and drops the group if all are equal. A rollout may have none here,
since its reward isn't applicable or has failed, and an estimator may learn from a group whose total doesn't vary, so
the decision is ours, and the dropping verl's. Shapes: ``N`` rollouts, ``K`` rewards, ``G`` prompt groups.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from math import isnan, nan

import torch
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

from mrpo.advantages import informative_groups
from mrpo.config.advantage import AdvantageConfig
from mrpo.step.outcome import INFORMATIVE_SHARE
from mrpo.step.rollouts import BatchRow, Rollouts, RowKey, select_rollouts
from mrpo.step.seam import Metrics
from mrpo.verl_seam.columns import get
from mrpo.verl_seam.rows import PARTITION, row_components, seen_rollouts, truncated


def shared_scores(rollouts: Rollouts, weights: Mapping[str, float]) -> dict[str, float]:
    """By uid, the score that all rollouts of a group have in common. Such groups are dropped.

    A group stays where fewer than two rollouts have a score: a reward that isn't applicable to a prompt has nothing to
    say about it, and others may teach. It stays where one has failed, too, since a failure has to be counted.

    Args:
        rollouts: of whole groups, with a column for each of ``weights``.
        weights: of each reward in the sum that is compared; a rollout's sum is over the rewards it has a score of.
    """
    weights_K = torch.tensor(list(weights.values()), dtype=torch.float64)
    valid_NK = ~rollouts.rewards_NK.isnan() & (weights_K > 0)
    sums = (weights_K * rollouts.rewards_NK.masked_fill(~valid_NK, 0.0)).sum(dim=1).tolist()
    counted = {name for name, weight in weights.items() if weight > 0}
    groups: dict[str, list[float]] = {}
    failed: set[str] = set()
    for key, scored, score, failures in zip(
        rollouts.keys, valid_NK.any(dim=1).tolist(), sums, rollouts.failures, strict=True
    ):
        groups.setdefault(key.uid, []).extend([score] if scored else [])
        failed |= {key.uid} if counted & failures.keys() else set()
    found = {uid: scores for uid, scores in groups.items() if len(scores) > 1 and uid not in failed}
    return {uid: scores[0] for uid, scores in found.items() if min(scores) == max(scores)}


def without_advantage(rollouts: Rollouts, config: AdvantageConfig) -> dict[str, float]:
    """By uid 0, the advantage that all rollouts of a group have in common by the estimator in use. Such groups are
    dropped, but for those in which a reward failed."""
    informative_G = informative_groups(rollouts.rewards_NK, rollouts.group_ids_N, config, rollouts.selected_N)
    uids = list(dict.fromkeys(key.uid for key in rollouts.keys))  # numbered in this order
    counted = {name for name, weight in config.weights.items() if weight > 0}
    failed = {
        key.uid for key, failures in zip(rollouts.keys, rollouts.failures, strict=True) if counted & failures.keys()
    }
    return {
        uid: 0.0
        for uid, informative in zip(uids, informative_G.tolist(), strict=True)
        if not informative and uid not in failed
    }


class GroupFilter:
    """Takes the place of a buffer's own decision. Each finished group is looked at once.

    Args:
        buffer: verl's.
        what: ``budget.filter_groups``: a reward, ``total``, or ``advantage``.
        config: gives the estimator and what rewards declare, in the step whose groups are looked at.
    """

    def __init__(self, buffer: ReplayBuffer, what: str, config: Callable[[], AdvantageConfig]):
        self.buffer, self.what, self.config = buffer, what, config
        self._dropped = self._informative = 0
        buffer._dapo_filtered_keys = self.dropped  # type: ignore[method-assign,assignment]

    def dropped(self, partition: str) -> tuple[set[str], Counter[float]]:
        """The uids of groups to replace, and how many of them share each score."""
        if partition != PARTITION:
            return set(), Counter()
        finished, decided = self.buffer.finished_keys[partition], self.buffer._dapo_classification_cache[partition]
        for uid in decided.keys() - finished:
            del decided[uid]
        new = finished - decided.keys()
        if keys := [key for key in self.buffer.partitions[partition] if RowKey.parse(key).uid in new]:
            data = get(partition, keys, ["extra_fields"])
            components, seen = row_components(data, (), len(keys)), seen_rollouts(data, len(keys))
            about = components, [0] * len(keys), [False] * len(keys), seen, truncated(data)
            config = self.config()
            shared = self._shared(select_rollouts(list(map(BatchRow, keys, *about)), config.names), config)
            decided |= {uid: shared.get(uid) for uid in new}
        dropped = {uid: score for uid, score in decided.items() if score is not None}
        return set(dropped), Counter(score for score in dropped.values() if not isnan(score))

    def _shared(self, rollouts: Rollouts, config: AdvantageConfig) -> dict[str, float]:
        """Of whole groups. One that masking leaves less than two of has nothing in common, and goes as well, unless a
        reward has failed in it."""
        sizes, failed = (
            rollouts.group_sizes,
            {k.uid for k, f in zip(rollouts.keys, rollouts.failures, strict=True) if f},
        )
        rollouts = rollouts.only(~rollouts.masked_N(config.algorithm))
        left = rollouts.group_sizes
        gone = {uid: nan for uid, n in sizes.items() if left.get(uid, 0) < min(n, 2) and uid not in failed}
        if self.what == "advantage":
            return without_advantage(rollouts, config) | gone
        weights = config.weights.items()
        weighed = {name: weight if self.what == "total" else float(name == self.what) for name, weight in weights}
        shared = shared_scores(rollouts, weighed)
        self._dropped += len(shared)
        self._informative += len(shared.keys() - without_advantage(rollouts, config).keys())
        return shared | gone

    def take_metrics(self) -> Metrics:
        """Since the last call: what share of the dropped groups the estimator would have given an advantage. Nothing
        where it decides itself, or none was dropped."""
        dropped, informative, self._dropped, self._informative = self._dropped, self._informative, 0, 0
        return {INFORMATIVE_SHARE: informative / dropped} if dropped else {}
