"""From the evidence on K rewards to the one variance that an allocator divides by.

Shapes: ``N`` rollouts, ``G`` prompt groups, ``K`` rewards.

``bernoulli``       p(1 − p) of the event "total above 0". For pass/fail rewards; blind to how far above.
``total_variance``  variance of the weighted total. For estimators that only centre it (Dr.GRPO, RLOO). Conflicting
                    rewards cancel in it, as they do in that gradient.
``per_reward``      Σ w_k² σ_k²: the total's variance if the rewards were uncorrelated, so that a conflict still counts.
``estimator``       whatever the estimator in use expects: a callable says a group's mean squared advantage. The right
                    one for those that divide by a std (GRPO, GDPO, DVAO).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import numpy as np
import numpy.typing as npt

from mrpo.budget.evidence import Evidence
from mrpo.budget.stats import FloatArray, IntArray, PromptStats
from mrpo.config.budget import Signal
from mrpo.errors import ConfigError, unknown_name

ExpectedSquare = Callable[[Evidence, int], FloatArray]
"""``(evidence, group size) -> float64[G]``: a group's expected squared advantage, NaN where unknown."""


def prompt_stats(
    evidence: Evidence,
    signal: Signal,
    weights_K: npt.ArrayLike | None = None,
    estimator: ExpectedSquare | None = None,
    group_size: int = 8,
    response_length_G: FloatArray | None = None,
) -> PromptStats:
    """The stats that ``signal`` reads in the evidence; ``weights_K`` (1 each) serve ``per_reward`` alone."""
    trials, mean, rewards = evidence.trials_GC[:, -1], evidence.mean_GC[:, -1], evidence.rewards
    if signal == "bernoulli":
        mean, variance = evidence.positive_G, evidence.spread_G
    elif signal == "total_variance":
        variance = evidence.variance_GC[:, -1]
    elif signal == "per_reward":
        weights = np.ones(rewards) if weights_K is None else np.asarray(weights_K, dtype=np.float64)
        if weights.shape != (rewards,):
            raise ConfigError(f"signal per_reward: weights of shape {weights.shape}, expected ({rewards},)")
        known = ~np.isnan(evidence.variance_GC[:, :rewards])
        variance = np.where(known, evidence.variance_GC[:, :rewards] * weights**2, 0.0).sum(axis=1)
        variance = np.where(known.any(axis=1), variance, np.nan)
    elif signal == "estimator":
        if estimator is None:
            raise ConfigError("budget.signal: 'estimator' needs the estimator's expected squared advantage, given None")
        variance = np.asarray(estimator(evidence, group_size), dtype=np.float64)
    else:
        raise unknown_name("budget.signal", signal, get_args(Signal))
    return PromptStats(trials, mean, variance, response_length_G)


def simulated(
    advantage: Callable[[FloatArray, IntArray], npt.ArrayLike], draws: int = 64, seed: int = 0
) -> ExpectedSquare:
    """Asks any estimator for its expected squared advantage by drawing groups from the evidence.

    ``advantage(rewards_NK, group_N) -> [N]`` is the estimator. A reward that is only ever 0 or 1 is drawn so, any other
    from the normal with its mean and variance; one that a prompt has no score of is NaN. They are drawn independently,
    since the history keeps no correlations. All prompts share the same random numbers, so equal ones get equal answers.
    """

    def expected_square(evidence: Evidence, group_size: int) -> FloatArray:
        rewards = evidence.rewards
        mean, variance = evidence.mean_GC[:, :rewards], evidence.variance_GC[:, :rewards]
        never, measured = np.isnan(mean), ~np.isnan(variance)  # a reward that never scored isn't applicable there
        known = np.flatnonzero((never | measured).all(axis=1) & measured.any(axis=1))
        rng = np.random.default_rng(seed)
        uniform, normal = rng.random((draws * group_size, rewards)), rng.standard_normal((draws * group_size, rewards))
        m, v, binary = mean[known, None], variance[known, None], evidence.binary_GC[known, None, :rewards]
        drawn = np.where(binary, uniform < m, m + np.sqrt(v) * normal).astype(np.float64)
        drawn[np.broadcast_to(np.isnan(m), drawn.shape)] = np.nan
        group = np.arange(len(known) * draws).repeat(group_size)
        advantages = np.asarray(advantage(drawn.reshape(-1, rewards), group), dtype=np.float64)
        square = np.full(len(mean), np.nan)
        square[known] = (advantages.reshape(len(known), -1) ** 2).mean(axis=1) if len(known) else 0.0
        return square

    return expected_square
