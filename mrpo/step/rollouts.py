"""What a batch's rollouts earned, joined by key.

A row's key is ``{uid}_{sample}_{turn}``: prompt, rollout of that prompt, output of that rollout. ``Rollouts`` are the
rows that count: padding rows left out, and of a rollout with several outputs the last. Shapes: M rows of the batch, N
rollouts, K rewards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch

from mrpo.config.estimators import EstimatorConfig
from mrpo.rewards.wire import details_of, failures_of, scores_of


class RowKey(NamedTuple):
    """A row's name, the only thing rows are joined by."""

    uid: str
    sample: int
    turn: int

    @classmethod
    def parse(cls, key: str) -> RowKey:
        """Raises ValueError if ``key`` isn't a row's.

        >>> RowKey.parse("00c5_0_3_1")
        RowKey(uid='00c5_0', sample=3, turn=1)
        """
        uid, sample, turn = key.rsplit("_", 2)
        return cls(uid, int(sample), int(turn))

    def __str__(self) -> str:
        return f"{self.uid}_{self.sample}_{self.turn}"


class BatchRow(NamedTuple):
    """What is known of one row of a batch."""

    key: str
    components: Mapping[str, Any]
    """The rollout's scores and failures (``mrpo.rewards.wire``)."""
    length: int
    """Response tokens that the loss counts."""
    is_padding: bool = False
    seen: Sequence[Mapping[str, Any]] = ()
    """All rollouts of the row's prompt, where it was sampled in rounds: sample, components, length, truncated."""
    truncated: bool | None = None
    """Whether the response reached its limit before its end; None: nobody knows."""
    versions: tuple[int | None, int | None] = (None, None)
    """The first and the last step whose weights sampled it; None: nobody knows."""


@dataclass(frozen=True)
class Rollouts:
    """The N rollouts of a batch, and for each of its M rows which rollout it belongs to (-1: padding).

    Where prompts are sampled in rounds, the rollouts that were seen but not selected are among the N, without a row:
    they count in every statistic and in no loss.
    """

    keys: list[RowKey]
    rewards_NK: torch.Tensor
    """float64; NaN where a reward isn't applicable or failed."""
    group_ids_N: torch.Tensor
    lengths_N: torch.Tensor
    """Tokens of each rollout that the loss counts, or would count."""
    row_of_N: torch.Tensor
    """Index in the batch of the row that stands for each rollout; -1: it has none."""
    rollout_of_M: torch.Tensor
    failures: list[dict[str, str]]
    """Per rollout: the rewards that failed, with the cause."""
    truncated: list[bool | None]
    """Per rollout: whether its response reached its limit before its end; None: nobody knows."""
    details: list[dict[str, Any]]
    """Per rollout: what reward functions returned besides their scores, by reward."""
    versions: list[tuple[int | None, int | None]] = field(default_factory=list)
    """Per rollout: the first and the last step whose weights sampled it; None: nobody knows."""

    @property
    def selected_N(self) -> torch.Tensor:
        return self.row_of_N >= 0

    def masked_N(self, algorithm: EstimatorConfig) -> torch.Tensor:
        """True: truncated, and ``algorithm.truncated`` leaves it out of the loss and of all statistics.

        Raises:
            RuntimeError: it depends on what nobody knows.
        """
        if algorithm.truncated == "keep":
            return torch.zeros(len(self.keys), dtype=torch.bool)
        if None in self.truncated:
            key = self.keys[self.truncated.index(None)]
            raise RuntimeError(
                f"algorithm.truncated: given mask, but nobody says whether rollout {key} is truncated: it is of "
                "another agent loop manager than this package's. Allowed there: keep."
            )
        return torch.tensor(self.truncated, dtype=torch.bool)

    def only(self, rows_N: torch.Tensor) -> Rollouts:
        """These of the rollouts, in the same order and under the same group ids."""
        kept = rows_N.nonzero().flatten().tolist()
        place_N = torch.where(rows_N, rows_N.cumsum(0) - 1, -1)
        return Rollouts(
            keys=[self.keys[n] for n in kept],
            rewards_NK=self.rewards_NK[rows_N],
            group_ids_N=self.group_ids_N[rows_N],
            lengths_N=self.lengths_N[rows_N],
            row_of_N=self.row_of_N[rows_N],
            rollout_of_M=torch.where(self.rollout_of_M >= 0, place_N[self.rollout_of_M], -1),
            failures=[self.failures[n] for n in kept],
            truncated=[self.truncated[n] for n in kept],
            details=[self.details[n] for n in kept],
            versions=[self.versions[n] for n in kept if self.versions],
        )

    def without_scores(self, rows_N: torch.Tensor) -> Rollouts:
        """The same, but that these rollouts have no score of any reward."""
        return replace(self, rewards_NK=self.rewards_NK.masked_fill(rows_N[:, None], torch.nan))

    @property
    def group_sizes(self) -> dict[str, int]:
        sizes: dict[str, int] = {}
        for key in self.keys:
            sizes[key.uid] = sizes.get(key.uid, 0) + 1
        return sizes


class _Rollout(NamedTuple):
    key: RowKey
    components: Mapping[str, Any]
    length: int
    """Of all of its outputs."""
    truncated: bool | None
    row: int
    versions: tuple[int | None, int | None] = (None, None)


def select_rollouts(batch: Sequence[BatchRow], names: Sequence[str]) -> Rollouts:
    """The rollouts that a batch's rows are of; of several outputs of a rollout the last stands for it.

    Raises:
        KeyError: a row lacks a reward: it names the row, the reward and what the row has.
    """
    rollouts: dict[tuple[str, int], _Rollout] = {}
    parsed = [RowKey.parse(row.key) for row in batch]
    lengths: Counter[tuple[str, int]] = Counter()
    for number, (key, row) in enumerate(zip(parsed, batch, strict=True)):
        lengths[key[:2]] += 0 if row.is_padding else row.length
        known = rollouts.get((key.uid, key.sample))
        if not row.is_padding and (known is None or key.turn >= known.key.turn):
            rollouts[key.uid, key.sample] = _Rollout(key, *row[1:3], row.truncated, number, row.versions)
    rollouts = {name: one._replace(length=lengths[name]) for name, one in rollouts.items()}
    for key, row in zip(parsed, batch, strict=True):
        for other in () if row.is_padding else row.seen:
            unselected = RowKey(key.uid, other["sample"], 0)
            found = _Rollout(unselected, other["components"], other["length"], other.get("truncated"), -1)
            rollouts.setdefault(unselected[:2], found)
    # A sum depends on its order: it must not depend on who finished first.
    chosen = sorted(rollouts.values(), key=lambda r: r.key)
    number_of = {r.key[:2]: number for number, r in enumerate(chosen)}
    groups: dict[str, int] = {}
    scores = [scores_of(r.components, names, r.key) for r in chosen]
    return Rollouts(
        keys=[r.key for r in chosen],
        rewards_NK=torch.tensor(scores, dtype=torch.float64).reshape(len(chosen), len(names)),
        group_ids_N=torch.tensor([groups.setdefault(r.key.uid, len(groups)) for r in chosen], dtype=torch.int64),
        lengths_N=torch.tensor([r.length for r in chosen], dtype=torch.int64),
        row_of_N=torch.tensor([r.row for r in chosen], dtype=torch.int64),
        rollout_of_M=torch.tensor(
            [-1 if row.is_padding else number_of[key[:2]] for key, row in zip(parsed, batch, strict=True)],
            dtype=torch.int64,
        ),
        failures=[failures_of(r.components) for r in chosen],
        truncated=[r.truncated for r in chosen],
        details=[details_of(r.components) for r in chosen],
        versions=[r.versions for r in chosen],
    )
