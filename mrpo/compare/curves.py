"""Learning curves over seeds: the median and the interquartile band at each point of an axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mrpo.compare.groups import Group
from mrpo.compare.run import Axis, Run
from mrpo.evaluation.statistics import FloatArray

POINTS = 100
"""Of a curve whose axis isn't the step: runs have no points in common there."""


@dataclass(frozen=True)
class Curve:
    """One measure of one group. Shape X: points; one that no run has a value at is left out."""

    group: str
    measure: str
    x: Sequence[float]
    median: Sequence[float]
    low: Sequence[float]
    """25 % quantile."""
    high: Sequence[float]
    runs: Sequence[int]
    """How many have a value there."""


def up_to(run: Run, axis: Axis, end: float) -> npt.NDArray[Any]:
    """Which of the run's steps count, shape (T,)."""
    return run.counts[axis] <= end + 1e-9 * abs(end)


def curve_of(group: Group, measure: str, axis: Axis, end: float) -> Curve:
    runs = [run for run in group.runs if measure in run.measures]
    if axis == "steps":
        x = np.array(sorted({step for run in runs for step in run.steps_T[up_to(run, axis, end)]}))
        values = [_at_steps(run, measure, x) for run in runs]
    else:
        x = np.linspace(end / POINTS, end, POINTS)
        values = [_before(run, measure, axis, x) for run in runs]
    table = np.array(values).reshape(len(runs), len(x))
    known = (~np.isnan(table)).sum(axis=0)
    kept = known > 0
    low, median, high = np.nanquantile(table[:, kept], [0.25, 0.5, 0.75], axis=0) if kept.any() else ([], [], [])
    return Curve(
        group=group.name,
        measure=measure,
        x=_list(x[kept]),
        median=_list(median),
        low=_list(low),
        high=_list(high),
        runs=known[kept].tolist(),
    )


def _list(values: Any) -> list[float]:
    return [float(value) for value in values]


def _at_steps(run: Run, measure: str, x: FloatArray) -> FloatArray:
    """The values at exactly these steps: a step that lacks one isn't filled from another."""
    by_step = dict(zip(run.steps_T, run.measures[measure], strict=True))
    return np.array([by_step.get(step, math.nan) for step in x])


def _before(run: Run, measure: str, axis: Axis, x: FloatArray) -> FloatArray:
    """The value of the last step that had ended at each point."""
    place = np.searchsorted(run.counts[axis], x + 1e-9 * np.abs(x), side="right") - 1
    return np.where(place >= 0, run.measures[measure][np.maximum(place, 0)], math.nan)
