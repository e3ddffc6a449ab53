"""Dynamic sampling (``budget.filter_groups``): which finished prompt groups verl's replay buffer replaces.

verl reads one number from every rollout of a group and drops the group if all are equal. A rollout may have none here,
since its reward isn't applicable or has failed, so the decision is ours, and the dropping verl's. Shapes: ``N``
rollouts, ``K`` rewards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import torch
import transfer_queue as tq
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

from mrpo.step.rollouts import BatchRow, Rollouts, RowKey, select_rollouts
from mrpo.verl_seam.rows import PARTITION, row_components, seen_rollouts


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


class GroupFilter:
    """Takes the place of a buffer's own decision. Each finished group is looked at once.

    Args:
        buffer: verl's.
        weights: of all rewards in what is compared, as in ``shared_scores``.
    """

    def __init__(self, buffer: ReplayBuffer, weights: Mapping[str, float]):
        self.buffer, self.weights = buffer, weights
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
            data = tq.kv_batch_get(keys=keys, partition_id=partition, select_fields=["extra_fields"])
            components, seen = row_components(data, (), len(keys)), seen_rollouts(data, len(keys))
            rows = [
                BatchRow(*row) for row in zip(keys, components, [0] * len(keys), [False] * len(keys), seen, strict=True)
            ]
            shared = shared_scores(select_rollouts(rows, list(self.weights)), self.weights)
            decided |= {uid: shared.get(uid) for uid in new}
        dropped = {uid: score for uid, score in decided.items() if score is not None}
        return set(dropped), Counter(dropped.values())
