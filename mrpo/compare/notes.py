"""What a comparison's numbers leave out or rest on, in words: one line each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mrpo.compare import statistics
from mrpo.compare.curves import up_to
from mrpo.compare.groups import Group, decisive, differing_fields
from mrpo.compare.run import Axis, Run

if TYPE_CHECKING:
    from mrpo.compare.comparison import Line

TOO_FEW = "too few seeds"


def left_out(run: Run) -> str:
    steps = f"after step {run.steps_T[-1]:g}" if len(run.steps_T) else "without a step"
    if run.complete or not len(run.steps_T):
        why = "it has no reward" if len(run.steps_T) else f"{run.state}, {steps}"
        return f"{run.name}: left out, {why}"
    because = f" ({run.detail})" if run.detail else ""
    return f"{run.name}: left out, {run.state} {steps}{because}; --unfinished counts it as far as it is"


def length_notes(runs: Sequence[Run], axis: Axis, end: float) -> list[str]:
    longer = [f"{run.name} ({run.counts[axis][-1]:,.0f})" for run in runs if run.counts[axis][-1] > end]
    shortest = [run.name for run in runs if run.counts[axis][-1] == end]
    notes = []
    if longer and (axis == "steps" or len(runs) == len(longer) + len(shortest)):
        notes.append(
            f"compared up to {end:,.0f} {axis}, where {', '.join(shortest[:3])} ends; later is left out of "
            f"{', '.join(longer[:6])}{' …' if len(longer) > 6 else ''}"
        )
    if axis == "steps":
        known = [run.counts["rollouts"][up_to(run, axis, end)] for run in runs if "rollouts" in run.counts]
        used = [float(rollouts[-1]) for rollouts in known if len(rollouts)]
        if used and max(used) > min(used):
            notes.append(
                f"at {end:,.0f} steps, runs had {min(used):,.0f} to {max(used):,.0f} rollouts; "
                "--per rollouts compares them at equal ones"
            )
        if len(known) < len(runs) and len(runs) > 1:
            notes.append("not every run says how many rollouts it had, so equal steps may be unequal budgets")
    return notes


def group_notes(groups: Sequence[Group]) -> list[str]:
    notes = []
    for group in groups:
        seeds = [run.seed for run in group.runs if run.seed is not None]
        if repeated := sorted({seed for seed in seeds if seeds.count(seed) > 1}):
            shown = ", ".join(map(str, repeated))
            notes.append(f"{group.name}: several runs of seed {shown}; their mean counts as one observation")
        settings = [decisive(run.settings) for run in group.runs if run.settings is not None]
        if settings and (fields := differing_fields(settings)):
            notes.append(f"{group.name}: its runs differ in more than the seed: {', '.join(fields[:8])}")
    return notes


def seed_notes(lines: Sequence[Line], first: str) -> list[str]:
    rewards = [line for line in lines if line.verdict and line.group != first]
    notes = []
    for name in dict.fromkeys(line.group for line in rewards):
        of_group = [line for line in rewards if line.group == name]
        if not any(line.pairs for line in of_group):
            notes.append(f"{name}: no seed in common with {first}, so there is nothing to pair and no test")
    tests = sum(line.p is not None for line in rewards)
    undecidable = [line for line in rewards if line.p is not None and line.verdict == TOO_FEW]
    if undecidable:
        fewest = min(line.pairs for line in undecidable)
        notes.append(
            f"too few seeds to tell: with {fewest} in common the sign-flip test can't go below "
            f"p = {statistics.smallest_p(fewest):.3g}, and {tests} tests need {statistics.seeds_needed(tests)} seeds "
            f"at {statistics.LEVEL:.2g} (Holm); the t intervals suppose that differences are normal"
        )
    return notes
