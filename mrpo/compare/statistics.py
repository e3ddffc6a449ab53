"""Statistics over seeds: intervals, paired tests with Holm's correction, effect sizes, targets and Pareto fronts.

A run (one seed) is one observation; its steps are not. Shapes: S seeds, T steps, C comparisons, P points.

Two answers are given to "does it differ from the baseline?". The paired t interval supposes that differences are
normal, which three seeds can neither show nor refute. The exact sign-flip test supposes nothing but that, without an
effect, each difference may as well have the other sign; S seeds have 2^S signs, so its p-value is never below 2/2^S,
and five seeds can never reach 0.05. What no outcome could have decided is reported as such (``decidable``), never as
"no difference".
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from mrpo.evaluation.statistics import CONFIDENCE, FloatArray, Interval

LEVEL = 1 - CONFIDENCE
"""At which tests decide."""
RESAMPLES = 9_999
"""Sign flips that are drawn where there are more than so many; fewer are all gone through."""
LAST_PART = 0.25
"""Share of a run whose mean is its final value."""


def final(x_T: FloatArray, values_T: FloatArray, end: float) -> float:
    """The final value of a run: the mean of its values in the last quarter before ``end``. NaN: there is none.

    >>> final(np.array([1.0, 2, 3, 4]), np.array([0.0, 0, 0.25, 0.5]), end=4)
    0.5

    Args:
        x_T: where each step ends: its number, or rollouts, tokens or seconds up to then.
        values_T: NaN where a step has none.
        end: where the comparison ends. Later steps don't count.
    """
    known = (x_T > end * (1 - LAST_PART)) & (x_T <= end) & ~np.isnan(values_T)
    return float(values_T[known].mean()) if known.any() else math.nan


def interval(values_S: npt.ArrayLike) -> Interval | None:
    """The mean over seeds with its 95 % t interval; NaNs are left out. No interval of a single seed; None of none.

    >>> [round(end, 3) for end in interval([0.5, 0.6, 0.7])]
    [0.6, 0.352, 0.848]
    """
    known = _known(values_S)
    if not len(known):
        return None
    value = float(known.mean())
    if len(known) == 1:
        return Interval(value, None, None)
    half = (
        float(special.stdtrit(len(known) - 1, 0.5 + CONFIDENCE / 2)) * float(known.std(ddof=1)) / math.sqrt(len(known))
    )
    return Interval(value, value - half, value + half)


def sign_flip_p(differences_S: npt.ArrayLike) -> float | None:
    """Two-sided p-value of the sign-flip test that the mean difference is 0; None without any. Exact up to 13 seeds.

    Fisher 1935, "The Design of Experiments", section 21.

    >>> sign_flip_p([0.1, 0.2, 0.3])
    0.25
    """
    known = _known(differences_S)
    if not len(known):
        return None
    if not known.any():
        return 1.0
    how = {"permutation_type": "samples", "vectorized": True, "n_resamples": RESAMPLES}
    if len(known) == 1:
        return 1.0  # a single difference is as far from 0 with either sign
    found = stats.permutation_test((known,), np.mean, rng=np.random.default_rng(0), **how)
    return float(found.pvalue)


def smallest_p(seeds: int) -> float:
    """The smallest p-value that ``sign_flip_p`` can give.

    >>> smallest_p(3), smallest_p(6)
    (0.25, 0.03125)
    """
    return min(1.0, 2 / 2**seeds) if 2**seeds <= RESAMPLES else 2 / (RESAMPLES + 1)


def t_p(differences_S: npt.ArrayLike) -> float | None:
    """Two-sided p-value of the paired t-test; None with fewer than two seeds, or differences that are all the same."""
    known = _known(differences_S)
    if len(known) < 2 or _constant(known):
        return None
    return float(stats.ttest_1samp(known, 0.0).pvalue)


def effect_size(differences_S: npt.ArrayLike) -> float | None:
    """Hedges' g of paired differences: their mean by their standard deviation, corrected for few seeds.

    None with fewer than three seeds (the correction is 0 there), or where differences don't vary. Hedges 1981,
    "Distribution Theory for Glass's Estimator of Effect Size", equation 6e.

    >>> round(effect_size([0.1, 0.2, 0.3]), 3)
    1.128
    """
    known = _known(differences_S)
    if len(known) < 3 or _constant(known):
        return None
    df = len(known) - 1
    correction = math.exp(math.lgamma(df / 2) - math.lgamma((df - 1) / 2)) / math.sqrt(df / 2)
    return float(known.mean() / known.std(ddof=1)) * correction


def holm(p_C: Sequence[float | None]) -> list[float | None]:
    """p-values corrected for all of them being looked at; None stays None and isn't counted.

    Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure".

    >>> holm([0.01, None, 0.04, 0.03])
    [0.03, None, 0.06, 0.06]
    """
    order = sorted((p, place) for place, p in enumerate(p_C) if p is not None)
    corrected: list[float | None] = [None] * len(p_C)
    largest = 0.0
    for rank, (p, place) in enumerate(order):
        largest = max(largest, min(1.0, p * (len(order) - rank)))
        corrected[place] = largest
    return corrected


def decidable(seeds_C: Sequence[int]) -> list[bool]:
    """Whether any outcome could have made each comparison significant, given its seeds and all the others.

    >>> decidable([6]), decidable([6, 6]), decidable([5])
    ([True], [False, False], [False])
    """
    best = holm([smallest_p(seeds) if seeds else None for seeds in seeds_C])
    return [p is not None and p <= LEVEL + 1e-12 for p in best]


def seeds_needed(comparisons: int) -> int:
    """Seeds from which so many comparisons can be decided.

    >>> seeds_needed(1), seeds_needed(2), seeds_needed(6)
    (6, 7, 8)
    """
    return next(seeds for seeds in range(1, 64) if decidable([seeds] * comparisons)[0])


def reached(x_T: FloatArray, values_T: FloatArray, target: float, width: int) -> float | None:
    """Where the mean of the last ``width`` values first is ``target`` or more; None: nowhere.

    >>> reached(np.array([1.0, 2, 3]), np.array([0.0, 0.5, 0.7]), 0.5, width=2)
    3.0
    """
    known = ~np.isnan(values_T)
    x, values = x_T[known], values_T[known]
    if len(values) < width:
        return None
    means = np.convolve(values, np.full(width, 1 / width), mode="valid")
    hits = np.flatnonzero(means >= target - 1e-12)
    return float(x[width - 1 + hits[0]]) if len(hits) else None


def pareto_front(points_P: Sequence[tuple[float, float]]) -> list[bool]:
    """Which points no other one beats: is at least as high in both and higher in one. A NaN point is in no front.

    >>> pareto_front([(0.9, 0.1), (0.5, 0.5), (0.4, 0.5)])
    [True, True, False]
    """
    points = np.asarray(points_P, dtype=np.float64).reshape(-1, 2)
    beaten = [bool(((points >= p).all(axis=1) & (points > p).any(axis=1)).any()) for p in points]
    return [not lost and not np.isnan(p).any() for lost, p in zip(beaten, points, strict=True)]


def _known(values: npt.ArrayLike) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    return array[~np.isnan(array)]


def _constant(values: FloatArray) -> bool:
    """All the same, up to rounding: of 0.1 + 0.2 - 0.3, a test would make certainty."""
    scale = max(1e-300, float(np.abs(values).max()))
    return bool(np.ptp(values) <= 1e-12 * scale)
