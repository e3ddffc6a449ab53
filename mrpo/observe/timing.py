"""Where a step's time goes: seconds by phase, and the panel that stacks them."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, median
from typing import TYPE_CHECKING

from mrpo.observe.axes import INK, empty, steps_axis
from mrpo.record import metrics
from mrpo.record.jsonl import Record
from mrpo.record.phase import STEP_PHASES, Phase

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PHASE_COLOURS: dict[str, str] = {
    Phase.ROLLOUT: "#0072B2",
    Phase.REWARD: "#F0E442",
    Phase.OLD_LOG_PROB: "#56B4E9",
    Phase.REF_LOG_PROB: "#999933",
    Phase.VALUES: "#882255",
    Phase.ADVANTAGE: "#009E73",
    Phase.UPDATE_CRITIC: "#CC79A7",
    Phase.UPDATE_ACTOR: "#D55E00",
    Phase.UPDATE_WEIGHTS: "#E69F00",
    Phase.SAVE: "#332288",
    Phase.VALIDATE: "#AA4499",
    "other": "#BBBBBB",
}
_MAX_BARS = 80


def phase_seconds(records: Sequence[Record]) -> dict[str, list[float]]:
    """Seconds of every phase in each step, "other" being what a step's total has beyond its parts.

    Phases that take under 2 % of the run's time, all together, are counted as "other" too.
    """
    parts: dict[str, list[float]] = {
        phase: [metrics.number(record, f"time/{phase}") or 0.0 for record in records] for phase in STEP_PHASES
    }
    other = []
    for place, record in enumerate(records):
        within = sum(parts[phase][place] for phase in parts if phase != Phase.VALIDATE)
        other.append(max(0.0, (metrics.number(record, "time/step") or 0.0) - within))
    everything = sum(map(sum, parts.values())) + sum(other)
    for phase in [phase for phase, seconds in parts.items() if sum(seconds) < 0.02 * everything or not any(seconds)]:
        other = [a + b for a, b in zip(other, parts.pop(phase), strict=True)]
    return {**parts, "other": other} if any(other) else parts


def draw_step_time(panel: Axes, records: Sequence[Record]) -> None:
    """Stack the phases of every step; in a long run, of the mean step in each of at most 80 intervals."""
    parts = phase_seconds(records)
    if not parts:
        empty(panel, "step time by phase", "not measured")
        return
    totals = {int(record["step"]): sum(step) for record, *step in zip(records, *parts.values(), strict=True)}
    usual = median(totals.values())
    interval = -(-len(records) // _MAX_BARS)
    steps = [fmean(group) for group in _groups([int(record["step"]) for record in records], interval)]
    parts = {phase: [fmean(group) for group in _groups(seconds, interval)] for phase, seconds in parts.items()}
    floor = [0.0] * len(steps)
    for phase, seconds in parts.items():
        panel.bar(steps, seconds, bottom=floor, width=interval, color=PHASE_COLOURS[phase], linewidth=0, label=phase)
        floor = [a + b for a, b in zip(floor, seconds, strict=True)]
    # One slow step, mostly the first with its compilations, would flatten all others.
    slow = {step: seconds for step, seconds in totals.items() if seconds > 3 * usual}
    panel.set_ylim(0, 1.12 * max([bar for bar in floor if bar <= 3 * usual], default=max(floor)))
    panel.set_title(f"step time by phase   {usual:.1f} s", color=INK)
    panel.set_ylabel("seconds" if interval == 1 else f"seconds (mean of {interval} steps)")
    handles, labels = panel.get_legend_handles_labels()
    panel.legend(handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=1.0)
    examples = ", ".join(f"step {step} took {seconds:.0f} s" for step, seconds in list(slow.items())[:2])
    more = f" and {len(slow) - 2} more" if len(slow) > 2 else ""
    steps_axis(panel, records, f"step ({examples}{more})" if slow else "step")


def _groups(values: Sequence[float], size: int) -> list[Sequence[float]]:
    return [values[start : start + size] for start in range(0, len(values), size)]
