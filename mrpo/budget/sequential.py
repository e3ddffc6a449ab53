"""Sampling in rounds: look at what came back, then decide who gets more, and what is kept.

The decisions alone, as pure functions of what has been observed; the caller generates, and joins by key. Both samplers
take what ``allocate`` says as the size of a prompt's round, so they compose with every allocator.

Shapes: ``N`` prompts of the sampler, ``R`` rollouts observed in all rounds so far.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from mrpo.budget.ids import IdArray, as_ids
from mrpo.budget.stats import FloatArray, IntArray
from mrpo.errors import ConfigError

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Observed:
    """All rollouts so far, in any order. A failed rollout's reward is NaN: it counts as made, never as kept."""

    rollout_R: np.ndarray
    """The rollout's own key, of any type: what ``select`` answers with."""
    prompt_R: IdArray
    """The id of its prompt."""
    reward_R: FloatArray

    def __post_init__(self) -> None:
        if not len(self.rollout_R) == len(self.prompt_R) == len(self.reward_R):
            raise ConfigError(
                f"Observed: {len(self.rollout_R)} rollouts, {len(self.prompt_R)} prompts and {len(self.reward_R)} "
                "rewards, expected as many of each"
            )


class Sequential(Protocol):
    """What decides between rounds."""

    def next_round(self, observed: Observed) -> IntArray:
        """How many rollouts to make now for each of the sampler's prompts; all 0 when sampling is over."""
        ...

    def select(self, observed: Observed) -> np.ndarray:
        """Keys of the rollouts to train on."""
        ...


class _Prompts:
    """The sampler's prompts, in their order, and the rows of an observation that belong to each."""

    def __init__(self, prompts: npt.ArrayLike, round_size: npt.ArrayLike):
        self.prompts = as_ids(prompts)
        self.round_size = np.broadcast_to(np.asarray(round_size, dtype=np.int64), self.prompts.shape)
        self._order = np.argsort(self.prompts, kind="stable")
        if (np.diff(self.prompts[self._order]) == 0).any():
            raise ConfigError("sequential sampling: a prompt id occurs twice")
        if (self.round_size < 1).any():
            raise ConfigError(f"sequential sampling: round size {self.round_size.min()}, allowed 1 or more")

    def index(self, prompt_R: IdArray) -> IntArray:
        """Which of the prompts each row belongs to."""
        place = np.searchsorted(self.prompts[self._order], prompt_R)
        index = self._order[np.minimum(place, len(self._order) - 1)] if len(self._order) else place
        if len(index) and (len(self._order) == 0 or (self.prompts[index] != prompt_R).any()):
            raise ConfigError("sequential sampling: a rollout of a prompt that isn't in this batch")
        return index

    def count(self, index_R: IntArray, where_R: BoolArray) -> IntArray:
        return np.bincount(index_R[where_R], minlength=len(self.prompts)).astype(np.int64)


class DapoFilter:
    """DAPO's dynamic sampling (arXiv 2503.14476): only groups with a signal, refilled from further prompts.

    ``candidates`` are prompts in the order in which they may be drawn; ``wanted`` groups make a batch. A group has a
    signal if its rewards aren't all equal (exactly), or if it was allotted one rollout.
    """

    def __init__(self, candidates: npt.ArrayLike, wanted: int, group_size: npt.ArrayLike, max_rounds: int = 10):
        self._prompts = _Prompts(candidates, group_size)
        self.wanted, self.max_rounds = wanted, max_rounds

    def next_round(self, observed: Observed) -> IntArray:
        """A whole batch of untried candidates while fewer than ``wanted`` groups are kept and rounds are left."""
        index = self._prompts.index(observed.prompt_R)
        made = self._prompts.count(index, np.ones(len(index), dtype=bool))
        n_N = np.zeros(len(made), dtype=np.int64)
        untried = np.flatnonzero(made == 0)[: self.wanted]
        rounds = -(-int((made > 0).sum()) // self.wanted)
        if rounds < self.max_rounds and self.kept(observed).sum() < self.wanted:
            n_N[untried] = self._prompts.round_size[untried]
        return n_N

    def kept(self, observed: Observed) -> BoolArray:
        """Which candidates have a group with a signal; fewer than ``wanted`` after the last round is a short batch."""
        index = self._prompts.index(observed.prompt_R)
        scored = ~np.isnan(observed.reward_R)
        least = np.full(len(self._prompts.prompts), np.inf)
        most = -least
        np.minimum.at(least, index[scored], observed.reward_R[scored])
        np.maximum.at(most, index[scored], observed.reward_R[scored])
        alone = (self._prompts.round_size == 1) & (most > -np.inf)
        return (most > least) | alone

    def select(self, observed: Observed) -> np.ndarray:
        """Scored rollouts of the first ``wanted`` groups that have a signal, in candidate order."""
        chosen = np.zeros(len(self._prompts.prompts), dtype=bool)
        chosen[np.flatnonzero(self.kept(observed))[: self.wanted]] = True
        return observed.rollout_R[chosen[self._prompts.index(observed.prompt_R)] & ~np.isnan(observed.reward_R)]


class ReinforceAda:
    """Reinforce-Ada (arXiv 2510.04996): each prompt is sampled in rounds until it has what it needs to teach.

    ``balanced``: until it has keep/2 rollouts above 0 and keep/2 not above; ``positive``: until it has one above 0.
    ``keep`` rollouts of it are then trained on, half and half as far as there are.
    """

    def __init__(
        self,
        prompts: npt.ArrayLike,
        round_size: npt.ArrayLike = 8,
        max_rounds: int = 4,
        keep: int = 4,
        stop: str = "balanced",
    ):
        if stop not in ("balanced", "positive"):
            raise ConfigError(f"reinforce_ada.stop: given {stop!r}, allowed balanced, positive")
        if keep < 2 or keep % 2:
            raise ConfigError(f"reinforce_ada.keep: given {keep}, allowed an even number from 2")
        self._prompts = _Prompts(prompts, round_size)
        self.max_rounds, self.keep, self.stop = max_rounds, keep, stop

    def next_round(self, observed: Observed) -> IntArray:
        """One more round for every prompt that isn't done and has rounds left."""
        index = self._prompts.index(observed.prompt_R)
        up, down = self._sides(observed, index)
        done = np.minimum(up, down) >= self.keep // 2 if self.stop == "balanced" else up >= 1
        made = self._prompts.count(index, np.ones(len(index), dtype=bool))
        size = self._prompts.round_size
        return np.where(done, 0, np.minimum(size, np.maximum(self.max_rounds * size - made, 0)))

    def select(self, observed: Observed) -> np.ndarray:
        """``keep`` rollouts a prompt (all, if it has fewer), the earliest rows of each side first."""
        index = self._prompts.index(observed.prompt_R)
        up, down = self._sides(observed, index)
        half = self.keep // 2
        take_up = np.minimum(up, np.maximum(half, self.keep - down))
        take_down = np.minimum(down, self.keep - take_up)
        above = observed.reward_R > 0
        kept = np.zeros(len(index), dtype=bool)
        for side, take in ((above, take_up), (~above & ~np.isnan(observed.reward_R), take_down)):
            rows = np.flatnonzero(side)
            rows = rows[np.argsort(index[rows], kind="stable")]
            first = np.searchsorted(index[rows], index[rows])
            kept[rows[np.arange(len(rows)) - first < take[index[rows]]]] = True
        return observed.rollout_R[kept]

    def baseline(self, observed: Observed) -> FloatArray:
        """Mean reward of each prompt over everything seen, kept or not: the kept half-and-half mean would be biased."""
        index = self._prompts.index(observed.prompt_R)
        scored = ~np.isnan(observed.reward_R)
        count = self._prompts.count(index, scored)
        total = np.bincount(index[scored], observed.reward_R[scored], minlength=len(count))
        return np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)

    def _sides(self, observed: Observed, index: IntArray) -> tuple[IntArray, IntArray]:
        above = observed.reward_R > 0
        below = ~above & ~np.isnan(observed.reward_R)
        return self._prompts.count(index, above), self._prompts.count(index, below)
