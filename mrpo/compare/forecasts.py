"""What was forecast of each reward, against what then happened.

To first order an update raises reward k iff its covariance with the advantage is above 0
(``mrpo.advantages.forecast``), and each step's line has that covariance, also in standard errors. Here it is held
against the change of the reward's mean over the rollouts, from the ``window`` steps before the forecast to as many
after it. The step's own rollouts are in neither: their chance is in the forecast, too. Rollouts of other steps are of
other prompts and few, so a change is noisy; whoever always says what mostly happens is right as often as that
(``base``), and a forecast is worth what it is right above it.

Intervals hold 95 %, over draws of blocks of steps that follow each other, since neighbouring steps aren't independent.
Shapes: ``T`` steps with a forecast and a change, ``S`` those drawn in a replicate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mrpo.record import metrics
from mrpo.record.jsonl import Record

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

CERTAIN = 2.0
"""Standard errors from which a covariance is a forecast, as ``mrpo.advantages.forecast`` has it."""
REPLICATES = 2000


class Forecasts(NamedTuple):
    """Of one reward in one run, by step: the covariance, the same in standard errors, and the change that followed."""

    covariance_T: FloatArray
    errors_T: FloatArray
    change_T: FloatArray


class Estimate(NamedTuple):
    """A number and its interval; NaN where nothing can be said."""

    value: float
    low: float
    high: float


class Said(NamedTuple):
    """The steps in which the same was forecast, and the reward's mean change after them."""

    steps: int
    change: Estimate


class Checked(NamedTuple):
    """One reward's forecasts over all runs."""

    said: dict[str, Said]
    """By ``rises``, ``stays`` and ``falls``."""
    right: Estimate
    """Of those that rise or fall, the share after which the reward did."""
    base: float
    """The share that the better of always saying rises and always saying falls has of the same steps."""
    gain: Estimate
    """``right`` less ``base``."""
    correlation: Estimate
    """Of covariance and change over all steps: does more of the one mean more of the other?"""


def forecasts(records: Sequence[Record], reward: str, window: int = 1, ahead: int = 0) -> Forecasts:
    """
    Args:
        records: lines of metrics.jsonl, a line a step.
        reward: its name.
        window: steps that a mean is taken over, before and after.
        ahead: the run's ``rollout.ahead``: so many steps later its rollouts are of the updated weights.

    >>> said = {"reward/a/covariance": 0.1, "reward/a/forecast": 3.0}
    >>> lines = [{"step": i, "reward/a/mean": i, **said} for i in (1, 2, 3, 4)]
    >>> forecasts(lines, "a").change_T.tolist()  # of the first step and the last nothing is known
    [2.0, 2.0]
    """
    columns = (f"reward/{reward}/{name}" for name in ("mean", "covariance", "forecast"))
    mean_T, covariance_T, errors_T = (
        np.array([np.nan if (at := metrics.number(line, name)) is None else at for line in records]) for name in columns
    )
    steps = np.array([line["step"] for line in records])
    changes = np.full(len(records), np.nan)
    for t in range(window, len(records) - ahead - window):
        if steps[t + ahead + window] - steps[t - window] == ahead + 2 * window:  # no step is without a line
            after = mean_T[t + ahead + 1 : t + ahead + window + 1]
            changes[t] = after.mean() - mean_T[t - window : t].mean()
    known = ~(np.isnan(changes) | np.isnan(covariance_T))
    return Forecasts(covariance_T[known], errors_T[known], changes[known])


def check(runs: Sequence[Forecasts], window: int = 1, seed: int = 0) -> Checked:
    """
    Args:
        runs: one reward's forecasts in each of the runs, made with this ``window``.
        window: blocks have four of it.
        seed: of the draws.
    """
    covariance_T, errors_T, change_T = (np.concatenate([run[field] for run in runs]) for field in range(3))
    draws = _draws([len(run.change_T) for run in runs], 4 * window, np.random.default_rng(seed))
    certain_T = np.abs(np.nan_to_num(errors_T)) > CERTAIN
    right_T = np.sign(errors_T) == np.sign(change_T)
    base = _base(change_T[certain_T])

    def estimate(of: Callable[[IntArray], float]) -> Estimate:
        replicates = np.array([of(draw) for draw in draws])
        replicates = replicates[~np.isnan(replicates)]
        low, high = np.quantile(replicates, [0.025, 0.975]) if len(replicates) else (np.nan, np.nan)
        return Estimate(of(np.arange(len(change_T))), float(low), float(high))

    kinds = {
        "rises": certain_T & (errors_T > 0),
        "stays": ~certain_T,
        "falls": certain_T & (errors_T < 0),
    }
    return Checked(
        said={
            kind: Said(int(where.sum()), estimate(lambda s, where=where: _mean(change_T[s][where[s]])))  # type: ignore[misc]
            for kind, where in kinds.items()
        },
        right=estimate(lambda s: _mean(right_T[s][certain_T[s]])),
        base=base,
        gain=estimate(lambda s: _mean(right_T[s][certain_T[s]]) - _base(change_T[s][certain_T[s]])),
        correlation=estimate(lambda s: _correlation(covariance_T[s], change_T[s])),
    )


def _draws(lengths: Sequence[int], block: int, rng: np.random.Generator) -> list[IntArray]:
    """Replicates of the steps of all runs, each of as many steps, in blocks that lie within a run and wrap around."""
    starts = np.cumsum([0, *lengths[:-1]])
    run_of = np.repeat(np.arange(len(lengths)), lengths)
    total, drawn = int(sum(lengths)), []
    for _ in range(REPLICATES if total else 0):
        first = rng.integers(total, size=-(-total // block))
        run, length = run_of[first], np.array(lengths)[run_of[first]]
        place = (first - starts[run])[:, None] + np.arange(block)
        drawn.append((starts[run][:, None] + place % length[:, None]).ravel()[:total])
    return drawn


def _mean(values: npt.NDArray[np.bool_] | FloatArray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _base(change: FloatArray) -> float:
    return max(_mean(change > 0), _mean(change < 0)) if len(change) else float("nan")


def _correlation(a: FloatArray, b: FloatArray) -> float:
    return float(np.corrcoef(a, b)[0, 1]) if len(a) > 2 and np.ptp(a) > 0 and np.ptp(b) > 0 else float("nan")
