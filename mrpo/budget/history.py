"""What every prompt's rollouts have earned so far, by content id, so that it outlives order, epoch and process.

Shapes: ``N`` rollouts and ``G`` prompts of one call, ``K`` rewards, ``C`` columns (the rewards, then their total).
Kept per prompt and column, in float32: three numbers over all time and four in which older steps count less.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from mrpo.budget.evidence import DEVIATION, MEAN, WEIGHT, Evidence, gather, merge, read
from mrpo.budget.ids import IdArray, as_ids
from mrpo.budget.signal import prompt_stats
from mrpo.budget.stats import FloatArray, IntArray, PromptStats
from mrpo.config.allocators import method_config
from mrpo.config.budget import Predictor, Signal
from mrpo.errors import ConfigError, unknown_name

_ALL_TIME = [0, 0, 1, 2]
"""Over all time every weight is 1, so the sum of squared weights is the weight and isn't stored twice."""


class PromptHistory:
    """Evidence per prompt and reward. ``decay`` is what a step later an observation still weighs (1: no forgetting).

    >>> history = PromptHistory(["right"])
    >>> history.observe([7, 7, 7, 8], rewards_NK=[[1.0], [0.0], [0.0], [1.0]])
    2
    >>> history.stats([7, 9]).mean_G.round(3).tolist()
    [0.333, nan]
    """

    def __init__(self, rewards: Sequence[str], decay: float = 0.995):
        if not rewards or len(set(rewards)) < len(rewards) or "total" in rewards:
            raise ConfigError(f"budget history: rewards={list(rewards)}, allowed distinct names other than 'total'")
        method_config("uniform", {}, decay=decay)  # refuses what the config would
        self.rewards, self.decay = tuple(rewards), decay
        self.columns = self.rewards if len(rewards) == 1 else (*self.rewards, "total")
        self.step = 0
        self._row_of: dict[int, int] = {}  # an id's row in the tables, numbered as ids appear
        self._all_time = np.zeros((0, len(self.columns), 3), dtype=np.float32)
        self._recent = np.zeros((0, len(self.columns), 4), dtype=np.float32)
        self._positive = np.zeros((0, 2), dtype=np.float32)
        self._seen_at = np.zeros(0, dtype=np.int32)
        self._length = np.zeros(0, dtype=np.float32)

    def __len__(self) -> int:
        return len(self._row_of)

    def __contains__(self, prompt: int) -> bool:
        return prompt in self._row_of

    def observe(
        self,
        ids: npt.ArrayLike,
        rewards_NK: npt.ArrayLike,
        total_N: npt.ArrayLike | None = None,
        length_N: npt.ArrayLike | None = None,
        step: int | None = None,
    ) -> int:
        """Enter one step's rollouts, row by row. Returns how many of the prompts had never been seen.

        Args:
            ids: the id of each rollout's prompt, [N].
            rewards_NK: what it earned; NaN where a reward is missing.
            total_N: the weighted sum as the training saw it; without it the plain sum, missing where a reward is. With
                one reward the total is that reward, and isn't kept twice.
            length_N: its tokens.
            step: the training step (default: one later than the last); it may not go back.

        Raises:
            ConfigError: an array of another shape, an infinite reward, or a step before the last.
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
        row = self._rows(prompts, add=True)
        new, positive = gather(group, len(prompts), rewards)
        keep = self.decay ** (step - self._seen_at[row]).astype(np.float64)
        old = self._all_time[row][..., _ALL_TIME].astype(np.float64)
        self._all_time[row] = merge(old, new, np.ones_like(keep))[..., [WEIGHT, MEAN, DEVIATION]]
        self._recent[row] = merge(self._recent[row].astype(np.float64), new, keep)
        self._positive[row] = self._positive[row] * np.stack([np.ones_like(keep), keep], 1) + positive[:, None]
        self._observe_length(row, group, length)
        self._seen_at[row] = step
        self.step = step
        return len(self) - before

    def evidence(
        self, ids: npt.ArrayLike, predictor: Predictor = "cumulative", prior: tuple[float, float] = (1.0, 1.0)
    ) -> Evidence:
        """What is known of each of G ids, in the order given; an id never seen has 0 trials and NaN for the rest.

        ``cumulative``: all rollouts alike. ``decayed``: weighed by ``decay`` to the power of their age in steps.
        ``beta``: the decayed success rate as a Beta posterior with ``prior`` (for all time: ``decay=1``).
        """
        if predictor not in get_args(Predictor):
            raise unknown_name("budget.predictor", predictor, get_args(Predictor))
        row_G = self._rows(as_ids(ids))
        known = np.flatnonzero(row_G >= 0)
        row = row_G[known]
        fields, positive = np.zeros((len(row_G), len(self.columns), 4)), np.zeros(len(row_G))
        if predictor == "cumulative":
            fields[known], positive[known] = self._all_time[row][..., _ALL_TIME], self._positive[row, 0]
        else:
            keep = self.decay ** (self.step - self._seen_at[row]).astype(np.float64)
            fields[known] = merge(self._recent[row].astype(np.float64), np.zeros((1, len(self.columns), 4)), keep)
            positive[known] = self._positive[row, 1] * keep
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
        return prompt_stats(evidence, signal, response_length_G=self.response_length(ids), **options)

    def response_length(self, ids: npt.ArrayLike) -> FloatArray:
        """Predicted tokens of a response to each id: the moving mean of its groups, NaN if none was observed."""
        row_G = self._rows(as_ids(ids))
        length = np.full(len(row_G), np.nan)
        length[row_G >= 0] = self._length[row_G[row_G >= 0]]
        return np.where(length > 0, length, np.nan)

    def state_dict(self) -> dict[str, Any]:
        """Numbers, texts and numpy arrays only; a copy."""
        size = len(self)
        return {
            "version": 1,
            "rewards": list(self.rewards),
            "step": self.step,
            "ids": np.array(list(self._row_of), dtype=np.uint64),
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
        row_of = {prompt: row for row, prompt in enumerate(np.asarray(state["ids"], dtype=np.uint64).tolist())}
        if len(set(sizes.values())) > 1 or len(row_of) < sizes["ids"]:
            raise ConfigError(
                f"budget history: damaged, rows of each part {sizes}, allowed as many of each, ids distinct"
            )
        self._row_of = row_of
        self.step = int(state["step"])
        self._all_time = np.array(state["all_time"], dtype=np.float32)
        self._recent = np.array(state["recent"], dtype=np.float32)
        self._positive = np.array(state["positive"], dtype=np.float32)
        self._seen_at = np.array(state["seen_at"], dtype=np.int32)
        self._length = np.array(state["length"], dtype=np.float32)

    def _rows(self, ids: IdArray, add: bool = False) -> IntArray:
        """The row of every id, -1 where there is none, or a new one with ``add``."""
        if not add:
            return np.array([self._row_of.get(prompt, -1) for prompt in ids.tolist()], dtype=np.int64)
        rows = np.array([self._row_of.setdefault(prompt, len(self)) for prompt in ids.tolist()], dtype=np.int64)
        if len(self) > len(self._seen_at):
            self._all_time, self._recent = _grown(self._all_time, len(self)), _grown(self._recent, len(self))
            self._positive = _grown(self._positive, len(self))
            self._seen_at, self._length = _grown(self._seen_at, len(self)), _grown(self._length, len(self))
        return rows

    def _observe_length(self, row: IntArray, group_N: IntArray, length_N: FloatArray) -> None:
        known = ~np.isnan(length_N)
        count = np.bincount(group_N[known], minlength=len(row))
        mean = np.bincount(group_N[known], length_N[known], minlength=len(row)) / np.maximum(count, 1)
        old = self._length[row]
        moved = np.where(old > 0, (old + mean) / 2, mean)
        self._length[row] = np.where(count > 0, moved, old)


def _grown(array: np.ndarray, size: int) -> np.ndarray:
    """A copy with room for ``size`` rows and an eighth more, so that growing costs O(1) a row; new rows are 0."""
    bigger = np.zeros((size + size // 8, *array.shape[1:]), dtype=array.dtype)
    bigger[: len(array)] = array
    return bigger
