"""From runs to one comparison: every group and measure, its final values over seeds, and what they say of the baseline.

All runs are cut where the shortest of them ends, by the axis of the comparison. A run that failed or was interrupted is
named and left out: its last steps are no final values. Pairs are runs of the same seed; groups without a seed in common
have no test.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from mrpo.compare import statistics
from mrpo.compare.curves import Curve, curve_of, up_to
from mrpo.compare.groups import Group, group_runs
from mrpo.compare.notes import TOO_FEW, group_notes, left_out, length_notes, seed_notes
from mrpo.compare.run import Axis, Run
from mrpo.errors import ConfigError, unknown_name
from mrpo.evaluation.compare import LENGTH
from mrpo.evaluation.statistics import Interval
from mrpo.observe.summary import window

HIGHER, LOWER, NOT_SHOWN = "higher", "lower", "no difference shown"
"""Verdicts on a difference from the baseline, beside ``TOO_FEW``."""


@dataclass(frozen=True)
class Reached:
    """When a group's runs reached a target."""

    target: float
    unit: str
    at: tuple[float | None, ...]
    """By run; None: not within the comparison."""

    @property
    def median(self) -> float | None:
        """Over all runs, of which those that never reach it count as later than any; None: most never do."""
        found = float(np.median([math.inf if at is None else at for at in self.at])) if self.at else math.inf
        return found if math.isfinite(found) else None


@dataclass(frozen=True)
class Line:
    """One measure of one group."""

    group: str
    measure: str
    finals: Mapping[str, float | None]
    """Each run's final value; None: it has none."""
    mean: Interval | None
    """Of the final values over seeds, with its 95 % t interval."""
    quartiles: tuple[float, float, float] | None
    """25 %, median and 75 % of the final values."""
    pairs: int = 0
    """Seeds that the baseline has as well."""
    difference: Interval | None = None
    """From the baseline, over those seeds, with its 95 % paired t interval."""
    effect_size: float | None = None
    """Hedges' g of the paired differences."""
    p: float | None = None
    """Of the sign-flip test; then with Holm's correction for all tests of this comparison."""
    p_holm: float | None = None
    p_t: float | None = None
    """Of the paired t-test; then with Holm's correction."""
    p_t_holm: float | None = None
    verdict: str = ""
    reached: Reached | None = None

    def as_json(self) -> dict[str, Any]:
        intervals = {name: _plain(getattr(self, name)) for name in ("mean", "difference")}
        reached = None if self.reached is None else asdict(self.reached) | {"median": self.reached.median}
        return asdict(self) | intervals | {"finals": dict(self.finals), "reached": reached}


@dataclass(frozen=True)
class Comparison:
    """All that is written and shown."""

    axis: Axis
    end: float
    groups: Sequence[Group]
    baseline: str
    lines: Sequence[Line]
    curves: Sequence[Curve]
    pareto: tuple[str, str] | None = None
    front: Mapping[str, bool] = field(default_factory=dict)
    """Which groups are on the Pareto front of the two rewards, by their means."""
    notes: Sequence[str] = ()

    @property
    def measures(self) -> list[str]:
        return list(dict.fromkeys(line.measure for line in self.lines))

    def line(self, group: str, measure: str) -> Line:
        return next(line for line in self.lines if (line.group, line.measure) == (group, measure))

    def as_json(self) -> dict[str, Any]:
        runs = [
            {"group": group.name, "run": run.name, "seed": run.seed, "steps": len(run.steps_T), "state": run.state}
            for group in self.groups
            for run in group.runs
        ]
        return {
            "axis": self.axis,
            "end": self.end,
            "baseline": self.baseline,
            "level": statistics.LEVEL,
            "final": f"mean of the last {statistics.LAST_PART:.0%} up to the end",
            "runs": runs,
            "lines": [line.as_json() for line in self.lines],
            "pareto": None if self.pareto is None else {"rewards": self.pareto, "front": dict(self.front)},
            "notes": list(self.notes),
        }


def compare_runs(
    runs: Sequence[Run],
    baseline: str | None = None,
    targets: Mapping[str, float] | None = None,
    pareto: tuple[str, str] | None = None,
    axis: Axis = "steps",
    unfinished: bool = False,
    end: float | None = None,
) -> Comparison:
    """Compare runs.

    Args:
        baseline: a group's name, or a part of it that no other has, or a run's name. Default: the first.
        targets: by reward, the value to reach.
        pareto: two rewards.
        axis: by what runs are aligned and cut.
        unfinished: count runs that failed or haven't ended, too, as far as they are.
        end: where on the axis runs are cut at the latest; default: where the shortest ends.

    Raises:
        ConfigError: nothing is left to compare, or a name is unknown, or a run doesn't say how far it is on the axis.
    """
    counted = [run for run in runs if len(run.steps_T) and run.rewards and (unfinished or run.complete)]
    notes = [left_out(run) for run in runs if run not in counted]
    if not counted:
        raise ConfigError("\n".join(["runs: none is left to compare.", *notes]))
    for run in counted:
        if axis not in run.counts:
            raise ConfigError(f"--per: given {axis}, which {run.name} doesn't record of every step. Allowed: steps.")
    groups = group_runs(counted)
    first = _baseline(groups, baseline)
    end = min([float(run.counts[axis][-1]) for run in counted] + ([] if end is None else [end]))
    notes += [*length_notes(counted, axis, end), *group_notes(groups)]
    rewards = list(dict.fromkeys(name for run in counted for name in run.rewards))
    for name in [*(targets or {}), *(pareto or ())]:
        if name not in rewards:
            raise unknown_name("--target" if name in (targets or {}) else "--pareto", name, rewards, noun="reward")
    measures = rewards + [LENGTH] * any(LENGTH in run.measures for run in counted)
    unit: Axis = "rollouts" if all("rollouts" in run.counts for run in counted) else axis
    wanted = {reward: (value, unit) for reward, value in (targets or {}).items()}
    lines = [_line(group, first, measure, axis, end, wanted.get(measure)) for measure in measures for group in groups]
    notes += [
        f"{line.measure}: {', '.join(lacking)} of {line.group} has no value in the last part"
        for line in lines
        if (lacking := [name for name, value in line.finals.items() if value is None])
    ]
    tested = _tested(lines, first.name)
    notes += seed_notes(tested, first.name)
    means = {group.name: [_mean(tested, group.name, reward) for reward in pareto or ()] for group in groups}
    front = statistics.pareto_front([(a, b) for a, b in means.values()]) if pareto else []
    return Comparison(
        axis=axis,
        end=end,
        groups=groups,
        baseline=first.name,
        lines=tested,
        curves=[curve_of(group, measure, axis, end) for measure in measures for group in groups],
        pareto=pareto,
        front=dict(zip(means, front, strict=True)) if pareto else {},
        notes=notes,
    )


def _line(group: Group, first: Group, measure: str, axis: Axis, end: float, target: tuple[float, Axis] | None) -> Line:
    finals = {run.name: _final(run, measure, axis, end) for run in group.runs}
    by_seed = list(_by_seed(group, measure, axis, end).values())
    known = [value for value in by_seed if not math.isnan(value)]
    low, middle, high = map(float, np.quantile(known, [0.25, 0.5, 0.75])) if known else (math.nan,) * 3
    line: dict[str, Any] = {}
    if group is not first:
        differences = _differences(group, first, measure, axis, end)
        line = {"pairs": len(differences), "difference": statistics.interval(differences)}
        line["effect_size"] = statistics.effect_size(differences)
        if measure != LENGTH and len(differences):  # how long responses are is described, not tested
            line |= {"p": statistics.sign_flip_p(differences), "p_t": statistics.t_p(differences)}
    if target is not None:
        line["reached"] = _reached(group, measure, axis, end, *target)
    return Line(
        group=group.name,
        measure=measure,
        finals={name: None if math.isnan(value) else value for name, value in finals.items()},
        mean=statistics.interval(by_seed),
        quartiles=(low, middle, high) if known else None,
        **line,
    )


def _final(run: Run, measure: str, axis: Axis, end: float) -> float:
    return statistics.final(run.counts[axis], run.measures[measure], end) if measure in run.measures else math.nan


def _by_seed(group: Group, measure: str, axis: Axis, end: float) -> dict[Any, float]:
    """Final values by seed: runs of one seed are one observation, their mean. A run without a seed is its own."""
    found: dict[Any, list[float]] = {}
    for n, run in enumerate(group.runs):
        key = ("run", n) if run.seed is None else run.seed
        found.setdefault(key, []).append(_final(run, measure, axis, end))
    return {key: float(np.mean(known)) if (known := _finite(values)) else math.nan for key, values in found.items()}


def _finite(values: Sequence[float]) -> list[float]:
    return [value for value in values if not math.isnan(value)]


def _differences(group: Group, first: Group, measure: str, axis: Axis, end: float) -> list[float]:
    of_group, of_first = (_by_seed(one, measure, axis, end) for one in (group, first))
    pairs = [of_group[seed] - of_first[seed] for seed in of_group if isinstance(seed, int) and seed in of_first]
    return _finite(pairs)


def _reached(group: Group, measure: str, axis: Axis, end: float, target: float, unit: Axis) -> Reached:
    at = []
    for run in group.runs:
        found = None
        if measure in run.measures:
            within = up_to(run, axis, end)
            values = run.measures[measure][within]
            width = window(int((~np.isnan(values)).sum()))
            found = statistics.reached(run.counts[unit][within], values, target, width)
        at.append(found)
    return Reached(target, unit, tuple(at))


def _tested(lines: Sequence[Line], baseline: str) -> list[Line]:
    """With p-values corrected for all of them, and a verdict each."""
    holm, holm_t = statistics.holm([line.p for line in lines]), statistics.holm([line.p_t for line in lines])
    decidable = statistics.decidable([line.pairs if line.p is not None else 0 for line in lines])
    return [
        replace(line, p_holm=holm[n], p_t_holm=holm_t[n], verdict=_verdict(line, holm[n], decidable[n], baseline))
        for n, line in enumerate(lines)
    ]


def _verdict(line: Line, p: float | None, decidable: bool, baseline: str) -> str:
    if line.group == baseline or line.measure == LENGTH or line.mean is None:
        return ""
    if p is None or not decidable or line.difference is None:
        return TOO_FEW
    if p > statistics.LEVEL:
        return NOT_SHOWN
    return HIGHER if line.difference.value > 0 else LOWER


def _mean(lines: Sequence[Line], group: str, measure: str) -> float:
    line = next(line for line in lines if (line.group, line.measure) == (group, measure))
    return math.nan if line.mean is None else line.mean.value


def _baseline(groups: Sequence[Group], given: str | None) -> Group:
    if given is None:
        return groups[0]
    exact = [group for group in groups if given == group.name or given in (run.name for run in group.runs)]
    found = exact or [group for group in groups if given in group.name]
    if len(found) != 1:
        raise unknown_name("--baseline", given, [group.name for group in groups], noun="group")
    return found[0]


def _plain(interval: Interval | None) -> dict[str, float | None] | None:
    return None if interval is None else interval._asdict()
