"""What every prompt's rollouts have earned so far, by content id, so that it outlives order, epoch and process.

Shapes: ``N`` rollouts or prompts of one call, ``K`` rewards, ``C`` columns (the rewards, then their total). Kept per
prompt and column, in float32: three numbers over all time and four in which older steps count less. At most 64 bytes a
prompt and reward; a call costs O(batch).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mrpo.budget.evidence import DEVIATION, MEAN, WEIGHT, Evidence, gather, merge, read
from mrpo.budget.ids import as_ids
from mrpo.budget.signal import Signal, prompt_stats
from mrpo.budget.slots import SlotTable, grown
from mrpo.budget.stats import FloatArray, PromptStats
from mrpo.errors import ConfigError, unknown_name

Predictor = Literal["cumulative", "decayed", "beta"]
_ALL_TIME = [0, 0, 1, 2]
"""Over all time every weight is 1, so the sum of squared weights is the weight and isn't stored twice."""


@dataclass(frozen=True)
class Coverage:
    """How a data set and the history agree; a prompt whose content changed is one ``new`` and one ``gone``."""

    known: int
    new: int
    gone: int


class PromptHistory:
    """Evidence per prompt and reward. ``decay`` is what a step later an observation still weighs (1: no forgetting)."""

    def __init__(self, rewards: Sequence[str], decay: float = 0.995):
        if not rewards or len(set(rewards)) < len(rewards) or "total" in rewards:
            raise ConfigError(f"budget history: rewards={list(rewards)}, allowed distinct names other than 'total'")
        if not 0 < decay <= 1:
            raise ConfigError(f"budget.decay: given {decay}, allowed above 0, at most 1")
        self.rewards, self.decay = tuple(rewards), decay
        self.columns = self.rewards if len(rewards) == 1 else (*self.rewards, "total")
        self.step = 0
        self._slots = SlotTable()
        self._all_time = np.zeros((0, len(self.columns), 3), dtype=np.float32)
        self._recent = np.zeros((0, len(self.columns), 4), dtype=np.float32)
        self._positive = np.zeros((0, 2), dtype=np.float32)
        self._seen_at = np.zeros(0, dtype=np.int32)
        self._length = np.zeros(0, dtype=np.float32)

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def nbytes(self) -> int:
        """Memory held, with the room for growth."""
        arrays = (self._all_time, self._recent, self._positive, self._seen_at, self._length)
        return self._slots.nbytes + sum(array.nbytes for array in arrays)

    def observe(
        self,
        ids: npt.ArrayLike,
        rewards_NK: npt.ArrayLike,
        total_N: npt.ArrayLike | None = None,
        length_N: npt.ArrayLike | None = None,
        step: int | None = None,
    ) -> int:
        """Enter one step's rollouts, row by row: the prompt's id, its rewards (NaN: missing), its tokens.

        ``total_N`` is the weighted sum as the training saw it; without it the plain sum, missing where a reward is.
        With one reward the total is that reward, and isn't kept twice.
        ``step`` is the training step (default: one later than the last); it may not go back. Returns how many of the
        prompts had never been seen.
        """
        ids = as_ids(ids)
        rewards = np.asarray(rewards_NK, dtype=np.float64)
        if rewards.shape != (len(ids), len(self.rewards)):
            raise ConfigError(
                f"history.observe: rewards of shape {rewards.shape}, expected ({len(ids)}, {len(self.rewards)})"
            )
        if len(self.rewards) > 1:
            total = rewards.sum(axis=1) if total_N is None else np.asarray(total_N, dtype=np.float64)
            if total.shape != ids.shape:
                raise ConfigError(f"history.observe: totals of shape {total.shape}, expected {ids.shape}")
            rewards = np.column_stack([rewards, total])
        if np.isinf(rewards).any():
            raise ConfigError("history.observe: an infinite reward; allowed numbers, and NaN for a missing one")
        length = np.full(len(ids), np.nan) if length_N is None else np.asarray(length_N, dtype=np.float64)
        if length.shape != ids.shape:
            raise ConfigError(f"history.observe: lengths of shape {length.shape}, expected {ids.shape}")
        step = self.step + 1 if step is None else step
        if step < self.step:
            raise ConfigError(f"history.observe: step {step} is before step {self.step}, which has been observed")

        prompts, group = np.unique(ids, return_inverse=True)
        before = len(self)
        slots = self._slots.add(prompts)
        self.reserve(len(self))
        new, positive = gather(group, len(prompts), rewards)
        keep = self.decay ** (step - self._seen_at[slots]).astype(np.float64)
        old = self._all_time[slots][..., _ALL_TIME].astype(np.float64)
        self._all_time[slots] = merge(old, new, np.ones_like(keep))[..., [WEIGHT, MEAN, DEVIATION]]
        self._recent[slots] = merge(self._recent[slots].astype(np.float64), new, keep)
        self._positive[slots] = self._positive[slots] * np.stack([np.ones_like(keep), keep], 1) + positive[:, None]
        self._observe_length(slots, group, length)
        self._seen_at[slots] = step
        self.step = step
        return len(self) - before

    def evidence(
        self, ids: npt.ArrayLike, predictor: Predictor = "cumulative", prior: tuple[float, float] = (1.0, 1.0)
    ) -> Evidence:
        """What is known of each id, in the order given; an id never seen has 0 trials and NaN for the rest.

        ``cumulative``: all rollouts alike. ``decayed``: weighed by ``decay`` to the power of their age in steps.
        ``beta``: the decayed success rate as a Beta posterior with ``prior`` (for all time: ``decay=1``).
        """
        if predictor not in ("cumulative", "decayed", "beta"):
            raise unknown_name("budget.predictor", predictor, ["cumulative", "decayed", "beta"])
        slots = self._slots.find(as_ids(ids))
        row = np.flatnonzero(slots >= 0)
        slot = slots[row]
        fields, positive = np.zeros((len(slots), len(self.columns), 4)), np.zeros(len(slots))
        if predictor == "cumulative":
            fields[row], positive[row] = self._all_time[slot][..., _ALL_TIME], self._positive[slot, 0]
        else:
            keep = self.decay ** (self.step - self._seen_at[slot]).astype(np.float64)
            fields[row] = merge(self._recent[slot].astype(np.float64), np.zeros((1, len(self.columns), 4)), keep)
            positive[row] = self._positive[slot, 1] * keep
        return read(fields, positive, self.columns, prior if predictor == "beta" else None)

    def stats(
        self,
        ids: npt.ArrayLike,
        signal: Signal = "bernoulli",
        predictor: Predictor = "cumulative",
        prior: tuple[float, float] = (1.0, 1.0),
        **options: Any,
    ) -> PromptStats:
        """What an allocator needs for these prompts: ``evidence``, reduced by ``signal`` (``mrpo.budget.signal``)."""
        evidence = self.evidence(ids, predictor, prior)
        return prompt_stats(evidence, signal, response_length_N=self.response_length(ids), **options)

    def response_length(self, ids: npt.ArrayLike) -> FloatArray:
        """Predicted tokens of a response to each id: the moving mean of its groups, NaN if none was observed."""
        slots = self._slots.find(as_ids(ids))
        length = np.full(len(slots), np.nan)
        length[slots >= 0] = self._length[slots[slots >= 0]]
        return np.where(length > 0, length, np.nan)

    def coverage(self, ids: npt.ArrayLike) -> Coverage:
        """Compare with a data set: prompts known, new, and gone (in the history but not in the data set)."""
        slots = self._slots.find(np.unique(as_ids(ids)))
        known = int((slots >= 0).sum())
        return Coverage(known=known, new=len(slots) - known, gone=len(self) - known)

    def state_dict(self) -> dict[str, Any]:
        """Numbers, texts and numpy arrays only; a copy."""
        size = len(self)
        return {
            "version": 1,
            "rewards": list(self.rewards),
            "step": self.step,
            "ids": self._slots.ids.copy(),
            "all_time": self._all_time[:size].copy(),
            "recent": self._recent[:size].copy(),
            "positive": self._positive[:size].copy(),
            "seen_at": self._seen_at[:size].copy(),
            "length": self._length[:size].copy(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Replace everything known by ``state``. Raises ConfigError if it is of other rewards or another version."""
        if (version := int(state["version"])) != 1:
            raise ConfigError(f"budget history: saved with format {version}, allowed 1")
        if (rewards := tuple(str(name) for name in state["rewards"])) != self.rewards:
            raise ConfigError(f"budget history: saved for rewards {list(rewards)}, allowed {list(self.rewards)}")
        sizes = {key: len(state[key]) for key in ("ids", "all_time", "recent", "positive", "seen_at", "length")}
        if len(set(sizes.values())) > 1 or len(np.unique(state["ids"])) < sizes["ids"]:
            raise ConfigError(
                f"budget history: damaged, rows of each part {sizes}, allowed as many of each, ids distinct"
            )
        self._slots = SlotTable()
        self._slots.add(np.asarray(state["ids"], dtype=np.uint64))
        self.step = int(state["step"])
        self._all_time = np.array(state["all_time"], dtype=np.float32)
        self._recent = np.array(state["recent"], dtype=np.float32)
        self._positive = np.array(state["positive"], dtype=np.float32)
        self._seen_at = np.array(state["seen_at"], dtype=np.int32)
        self._length = np.array(state["length"], dtype=np.float32)

    def _observe_length(self, slots: npt.NDArray[np.int64], group: npt.NDArray[np.int64], length_N: FloatArray) -> None:
        known = ~np.isnan(length_N)
        count = np.bincount(group[known], minlength=len(slots))
        mean = np.bincount(group[known], length_N[known], minlength=len(slots)) / np.maximum(count, 1)
        old = self._length[slots]
        moved = np.where(old > 0, (old + mean) / 2, mean)
        self._length[slots] = np.where(count > 0, moved, old)

    def reserve(self, size: int) -> None:
        """Make room for ``size`` prompts in all, so that no later call has to."""
        self._slots.reserve(size)
        if size > len(self._seen_at):
            self._all_time, self._recent = grown(self._all_time, size), grown(self._recent, size)
            self._positive = grown(self._positive, size)
            self._seen_at, self._length = grown(self._seen_at, size), grown(self._length, size)
