"""Sampling in rounds: look at what came back, then decide who gets more, and what is kept.

The decisions alone, as pure functions of what has been observed; the caller generates, and joins by key. A sampler
takes what ``allocate`` says as the size of a prompt's round, so it composes with every allocator.

Shapes: ``N`` rollouts observed in all rounds so far, ``G`` prompt groups of the sampler.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mrpo.budget.ids import IdArray, as_ids
from mrpo.budget.stats import FloatArray, IntArray
from mrpo.config.budget import RoundsConfig
from mrpo.errors import ConfigError

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Observed:
    """All rollouts so far, in any order. A failed rollout's reward is NaN: it counts as made, never as kept."""

    rollout_N: np.ndarray
    """The rollout's own key, of any type: what ``select`` answers with."""
    prompt_N: IdArray
    """The id of its prompt."""
    reward_N: FloatArray

    def __post_init__(self) -> None:
        if not len(self.rollout_N) == len(self.prompt_N) == len(self.reward_N):
            raise ConfigError(
                f"Observed: {len(self.rollout_N)} rollouts, {len(self.prompt_N)} prompts and {len(self.reward_N)} "
                "rewards, expected as many of each"
            )


class SampledPrompts:
    """The sampler's prompts, in their order, and the rows of an observation that belong to each."""

    def __init__(self, prompts: npt.ArrayLike, round_size: npt.ArrayLike):
        self.prompts = as_ids(prompts)
        self.round_size = np.broadcast_to(np.asarray(round_size, dtype=np.int64), self.prompts.shape)
        self._order = np.argsort(self.prompts, kind="stable")
        if (np.diff(self.prompts[self._order]) == 0).any():
            raise ConfigError("sequential sampling: a prompt id occurs twice")
        if (self.round_size < 1).any():
            raise ConfigError(f"sequential sampling: round size {self.round_size.min()}, allowed 1 or more")

    def index(self, prompt_N: IdArray) -> IntArray:
        """Which of the prompts each row belongs to."""
        place = np.searchsorted(self.prompts[self._order], prompt_N)
        index = self._order[np.minimum(place, len(self._order) - 1)] if len(self._order) else place
        if len(index) and (len(self._order) == 0 or (self.prompts[index] != prompt_N).any()):
            raise ConfigError("sequential sampling: a rollout of a prompt that isn't in this batch")
        return index

    def count(self, index_N: IntArray, where_N: BoolArray) -> IntArray:
        return np.bincount(index_N[where_N], minlength=len(self.prompts)).astype(np.int64)


class ReinforceAda:
    """Reinforce-Ada (arXiv 2510.04996): each prompt is sampled in rounds until it has what it needs to teach.

    ``balanced``: until it has keep/2 rollouts above ``threshold`` and keep/2 not above; ``positive``: until it has one
    above. ``keep`` rollouts of it are then trained on, half and half as far as there are.

    >>> sampler = ReinforceAda(prompts=[7], round_size=4, rounds=RoundsConfig(keep=2))
    >>> keys, prompts = np.arange(4), np.full(4, 7, dtype=np.uint64)
    >>> sampler.next_round(Observed(keys, prompts, np.zeros(4))).tolist()  # none is right: another round
    [4]
    >>> sampler.select(Observed(keys, prompts, np.array([0.0, 1.0, 0.0, 1.0]))).tolist()
    [0, 1]
    """

    def __init__(self, prompts: npt.ArrayLike, round_size: npt.ArrayLike, rounds: RoundsConfig):
        self._prompts = SampledPrompts(prompts, round_size)
        self.rounds = rounds

    def next_round(self, observed: Observed) -> IntArray:
        """One more round for every prompt that isn't done and has rounds left."""
        index = self._prompts.index(observed.prompt_N)
        up, down = self._sides(observed, index)
        done = np.minimum(up, down) >= self.rounds.keep // 2 if self.rounds.stop == "balanced" else up >= 1
        made = self._prompts.count(index, np.ones(len(index), dtype=bool))
        size = self._prompts.round_size
        return np.where(done, 0, np.minimum(size, np.maximum(self.rounds.max_rounds * size - made, 0)))

    def select(self, observed: Observed) -> np.ndarray:
        """``keep`` rollouts a prompt (all, if it has fewer), the earliest rows of each side first."""
        index = self._prompts.index(observed.prompt_N)
        up, down = self._sides(observed, index)
        keep = self.rounds.keep
        take_up = np.minimum(up, np.maximum(keep // 2, keep - down))
        take_down = np.minimum(down, keep - take_up)
        above = observed.reward_N > self.rounds.threshold
        kept = np.zeros(len(index), dtype=bool)
        for side, take in ((above, take_up), (~above & ~np.isnan(observed.reward_N), take_down)):
            rows = np.flatnonzero(side)
            rows = rows[np.argsort(index[rows], kind="stable")]
            first = np.searchsorted(index[rows], index[rows])
            kept[rows[np.arange(len(rows)) - first < take[index[rows]]]] = True
        return observed.rollout_N[kept]

    def _sides(self, observed: Observed, index: IntArray) -> tuple[IntArray, IntArray]:
        above = observed.reward_N > self.rounds.threshold
        below = ~above & ~np.isnan(observed.reward_N)
        return self._prompts.count(index, above), self._prompts.count(index, below)
