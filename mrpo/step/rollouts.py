"""Read what a step's rollouts earned out of verl's TransferQueue, joined by key.

A row's key is ``{uid}_{session}_{turn}``: prompt, rollout of that prompt, output of that rollout. ``RolloutRows`` are
the rows that count: padding rows left out, and of a rollout with several outputs the last. Shapes: M rows of the batch,
N rollouts, K rewards.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from tensordict import NonTensorData

from mrpo.verl_seam.reward_manager import FAILURES

SEEN = "seen_rollouts"
"""Key in a row's ``extra_fields``."""


class RowKey(NamedTuple):
    """A row's name, the only thing rows are joined by."""

    uid: str
    session: int
    turn: int

    @classmethod
    def parse(cls, key: str) -> RowKey:
        uid, session, turn = key.rsplit("_", 2)
        return cls(uid, int(session), int(turn))


@dataclass(frozen=True)
class RolloutRows:
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

    @property
    def selected_N(self) -> torch.Tensor:
        return self.row_of_N >= 0

    @property
    def group_sizes(self) -> dict[str, int]:
        sizes: dict[str, int] = {}
        for key in self.keys:
            sizes[key.uid] = sizes.get(key.uid, 0) + 1
        return sizes


class Row(NamedTuple):
    """What is known of one row of a batch."""

    key: str
    components: dict[str, Any]
    length: int
    is_padding: bool = False
    seen: Sequence[dict[str, Any]] = ()
    """All rollouts of the row's prompt, where it was sampled in rounds: session, components, length."""


class _Rollout(NamedTuple):
    key: RowKey
    components: dict[str, Any]
    length: int
    row: int


def select_rollouts(batch: Sequence[Row], names: Sequence[str]) -> RolloutRows:
    """The rollouts that a batch's rows are of; of several outputs of a rollout the last stands for it.

    Raises:
        KeyError: a row lacks a component: it names the row, the reward and what the row has.
    """
    rollouts: dict[tuple[str, int], _Rollout] = {}
    parsed = [RowKey.parse(row.key) for row in batch]
    for number, (key, row) in enumerate(zip(parsed, batch, strict=True)):
        known = rollouts.get((key.uid, key.session))
        if not row.is_padding and (known is None or key.turn >= known.key.turn):
            rollouts[key.uid, key.session] = _Rollout(key, row.components, row.length, number)
    for key, row in zip(parsed, batch, strict=True):
        for other in () if row.is_padding else row.seen:
            unselected = RowKey(key.uid, other["session"], 0)
            rollouts.setdefault(unselected[:2], _Rollout(unselected, other["components"], other["length"], -1))
    chosen = sorted(rollouts.values(), key=lambda r: r.key)  # a sum depends on its order: not on who finished first
    number_of = {r.key[:2]: number for number, r in enumerate(chosen)}
    groups: dict[str, int] = {}
    scores = [[_component(r.components, name, r.key) for name in names] for r in chosen]
    return RolloutRows(
        keys=[r.key for r in chosen],
        rewards_NK=torch.tensor(scores, dtype=torch.float64).reshape(len(chosen), len(names)),
        group_ids_N=torch.tensor([groups.setdefault(r.key.uid, len(groups)) for r in chosen], dtype=torch.int64),
        lengths_N=torch.tensor([r.length for r in chosen], dtype=torch.int64),
        row_of_N=torch.tensor([r.row for r in chosen], dtype=torch.int64),
        rollout_of_M=torch.tensor(
            [-1 if row.is_padding else number_of[key[:2]] for key, row in zip(parsed, batch, strict=True)],
            dtype=torch.int64,
        ),
        failures=[json.loads(r.components.get(FAILURES) or "{}") for r in chosen],
    )


def _component(components: dict[str, Any], name: str, key: RowKey) -> float:
    if name not in components:
        raise KeyError(f"rollout {'_'.join(map(str, key))} has no reward {name!r}; it has {sorted(components)}")
    value = components[name]
    return float("nan") if value is None else float(value)


def row_components(data: Any, names: Sequence[str], size: int) -> list[dict[str, Any]]:
    """Each row's components from whichever of verl's two shapes they came in.

    Scored while rolling out: ``extra_fields["reward_extra_info"]``. Scored after it (colocated reward models): a field
    of the batch per component.
    """
    nested = [_plain(item) for item in data["extra_fields"]] if "extra_fields" in data else [{}] * size
    rows = [dict(item.get("reward_extra_info") or {}) for item in nested]
    for name in (*names, FAILURES):
        if name in data:
            for row, value in zip(rows, data[name], strict=True):
                row[name] = _plain(value)
    return rows


def row_seen(data: Any, size: int) -> list[Sequence[dict[str, Any]]]:
    """All rollouts of each row's prompt, as ``rollout.RoundsWorker`` left them; empty for a prompt sampled at once."""
    if "extra_fields" not in data:
        return [()] * size
    return [_plain(item).get(SEEN, ()) for item in data["extra_fields"]]


def _plain(value: Any) -> Any:
    """verl's non-tensor fields come wrapped or bare, by TransferQueue backend; numbers also as arrays of none."""
    if isinstance(value, NonTensorData):
        value = value.data
    return value.item() if isinstance(value, torch.Tensor | np.generic | np.ndarray) else value
