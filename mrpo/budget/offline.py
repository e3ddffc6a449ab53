"""For library users only: what training doesn't call, but analyses of logged rollouts and loops of one's own do.

Training filters groups by verl's replay buffer (``budget.filter_groups``); ``DapoFilter`` is the same decision as pure
functions. Shapes: ``N`` rollouts, ``G`` prompt groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mrpo.budget.history import PromptHistory
from mrpo.budget.ids import as_ids
from mrpo.budget.sequential import BoolArray, Observed, SampledPrompts
from mrpo.budget.stats import IntArray, PromptStats


def stats_from_rates(rate_G: npt.ArrayLike, trials: float = 1e6, **others: Any) -> PromptStats:
    """Prompts whose success rates are known: variance p(1 − p).

    >>> stats_from_rates([0.5, 1.0]).variance_G.tolist()
    [0.25, 0.0]
    """
    rate = np.asarray(rate_G, dtype=np.float64)
    return PromptStats(np.full(rate.shape, trials), rate, rate * (1 - rate), **others)


def stats_from_counts(successes_G: npt.ArrayLike, trials_G: npt.ArrayLike, **others: Any) -> PromptStats:
    """Counted successes: the unbiased k(n − k)/(n(n − 1)), unknown below two trials (DynaMO, arXiv 2602.19208).

    >>> stats_from_counts([1, 1], [2, 1]).variance_G.tolist()
    [0.5, nan]
    """
    k, n = np.asarray(successes_G, dtype=np.float64), np.asarray(trials_G, dtype=np.float64)
    mean = np.divide(k, n, out=np.full(n.shape, np.nan), where=n > 0)
    variance = np.divide(k * (n - k), n * (n - 1), out=np.full(n.shape, np.nan), where=n > 1)
    return PromptStats(n, mean, variance, **others)


@dataclass(frozen=True)
class Coverage:
    """How a data set and the history agree; a prompt whose content changed is one ``new`` and one ``gone``."""

    known: int
    new: int
    gone: int


def coverage(history: PromptHistory, ids: npt.ArrayLike) -> Coverage:
    """Compare with a data set: prompts known, new, and gone (in the history but not in the data set)."""
    prompts = set(as_ids(ids).tolist())
    known = sum(prompt in history for prompt in prompts)
    return Coverage(known=known, new=len(prompts) - known, gone=len(history) - known)


class DapoFilter:
    """DAPO's dynamic sampling (arXiv 2503.14476): only groups with a signal, refilled from further prompts.

    ``candidates`` are prompts in the order in which they may be drawn; ``wanted`` groups make a batch. A group has a
    signal if its rewards aren't all equal (exactly), or if it was allotted one rollout.
    """

    def __init__(self, candidates: npt.ArrayLike, wanted: int, group_size: npt.ArrayLike, max_rounds: int = 10):
        self._prompts = SampledPrompts(candidates, group_size)
        self.wanted, self.max_rounds = wanted, max_rounds

    def next_round(self, observed: Observed) -> IntArray:
        """A whole batch of untried candidates while fewer than ``wanted`` groups are kept and rounds are left."""
        index = self._prompts.index(observed.prompt_N)
        made = self._prompts.count(index, np.ones(len(index), dtype=bool))
        n_G = np.zeros(len(made), dtype=np.int64)
        untried = np.flatnonzero(made == 0)[: self.wanted]
        rounds = -(-int((made > 0).sum()) // self.wanted)
        if rounds < self.max_rounds and self.kept(observed).sum() < self.wanted:
            n_G[untried] = self._prompts.round_size[untried]
        return n_G

    def kept(self, observed: Observed) -> BoolArray:
        """Which candidates have a group with a signal; fewer than ``wanted`` after the last round is a short batch."""
        index = self._prompts.index(observed.prompt_N)
        scored = ~np.isnan(observed.reward_N)
        smallest = np.full(len(self._prompts.prompts), np.inf)
        largest = -smallest
        np.minimum.at(smallest, index[scored], observed.reward_N[scored])
        np.maximum.at(largest, index[scored], observed.reward_N[scored])
        alone = (self._prompts.round_size == 1) & (largest > -np.inf)
        return (largest > smallest) | alone

    def select(self, observed: Observed) -> np.ndarray:
        """Scored rollouts of the first ``wanted`` groups that have a signal, in candidate order."""
        chosen = np.zeros(len(self._prompts.prompts), dtype=bool)
        chosen[np.flatnonzero(self.kept(observed))[: self.wanted]] = True
        return observed.rollout_N[chosen[self._prompts.index(observed.prompt_N)] & ~np.isnan(observed.reward_N)]
