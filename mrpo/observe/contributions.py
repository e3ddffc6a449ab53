"""Each reward's contribution to the advantage, its zero-variance groups, and which rewards conflict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mrpo.observe.axes import GREY, INK, curve, empty, reward_style, short, steps_axis
from mrpo.observe.heatmap import draw_pairs, pair_means
from mrpo.observe.summary import quarters, smooth, window
from mrpo.record import metrics
from mrpo.record.jsonl import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PAIRS = ("advantage/correlation", "advantage/conflict")


def is_measured(records: Sequence[Record]) -> bool:
    """Whether any step holds the estimator's diagnostics."""
    return any(
        name.startswith((*_PAIRS, "advantage/distinct")) or name.endswith("/effective_weight")
        for record in records
        for name in record
    )


def draw_contributions(area: Any, records: Sequence[Record], rewards: Sequence[str]) -> None:
    """Two rows of panels into a part of a figure."""
    _key(area, rewards)
    upper, lower = area.subfigures(2, 1, height_ratios=[1, 1.08])
    weight, share, zero_variance = upper.subplots(1, 3)
    _weights(weight, records, rewards)
    label = "below 0: works against the rest"
    _lines(share, records, rewards, "advantage_share", "share of the advantage's square", label)
    _lines(zero_variance, records, rewards, "zero_variance_share", "no variance within the group", "share of groups")
    correlation, conflict, rest = lower.subfigures(1, 3)
    values = [pair_means(records, metric, rewards) for metric in _PAIRS]
    label = "within groups, mean of the last quarter"
    draw_pairs(correlation.subplots(), "correlation", label, rewards, values[0], "RdBu", low=-1.0)
    label = "rollouts that the two push apart: share, last quarter"
    draw_pairs(conflict.subplots(), "conflict", label, rewards, values[1], "Oranges", low=0.0)
    _rest(rest, records)


def _key(area: Any, rewards: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    handles = []
    for place, reward in enumerate(rewards):
        colour, dashes = reward_style(place)
        handles.append(Line2D([], [], color=colour, linestyle=dashes, linewidth=2.4, label=short(reward, 20)))
    if handles:
        area.legend(handles=handles, loc="upper right", ncols=4, borderaxespad=0.3, handlelength=2.4)


def _weights(panel: Axes, records: Sequence[Record], rewards: Sequence[str]) -> None:
    """Stack the shares of every step, as wide as the step, so that a run of one step shows too."""
    title = "effective weight"
    columns = [
        [metrics.number(record, f"reward/{reward}/effective_weight") for reward in rewards] for record in records
    ]
    measured = [(int(r["step"]), column) for r, column in zip(records, columns, strict=True) if any(column)]
    if not measured:
        empty(panel, title, "not measured")
        return
    edges = [edge for step, _ in measured for edge in (step - 0.5, step + 0.5)]
    width = window(len(measured))
    shares = [smooth([column[place] or 0.0 for _, column in measured], width) for place in range(len(rewards))]
    stack = [[share for share in reward for _ in range(2)] for reward in shares]
    colours = [reward_style(place)[0] for place in range(len(rewards))]
    panel.stackplot(edges, stack, colors=colours, alpha=0.85, linewidth=0)
    panel.set_ylim(0, 1)
    panel.set_title(title, color=INK)
    panel.set_ylabel("share of the contributions' size")
    panel.grid(visible=False)
    steps_axis(panel, records, "step")
    _scheduled(panel, records, rewards)


def _scheduled(panel: Axes, records: Sequence[Record], rewards: Sequence[str]) -> None:
    """A line over the shares for each weight that follows a schedule, on an axis of its own."""
    found = [(place, *metrics.series(records, f"reward/{reward}/weight")) for place, reward in enumerate(rewards)]
    lines = [one for one in found if one[1]]
    if not lines:
        return
    beside = panel.twinx()
    for place, steps, values in lines:
        colour, dashes = reward_style(place)
        beside.plot(steps, values, color="white", linewidth=4)
        beside.plot(steps, values, color=colour, linestyle=dashes, linewidth=2)
    beside.set_ylim(0, 1.05 * max(max(values) for _, _, values in lines) or 1.0)
    beside.set_ylabel("scheduled weight (lines)")
    beside.grid(visible=False)


def _lines(panel: Axes, records: Sequence[Record], rewards: Sequence[str], metric: str, title: str, label: str) -> None:
    lowest = highest = 0.0
    for place, reward in enumerate(rewards):
        steps, values = metrics.series(records, f"reward/{reward}/{metric}")
        if steps:
            curve(panel, steps, values, *reward_style(place))
            lowest, highest = min(lowest, *values), max(highest, *values)
    if not panel.lines:
        empty(panel, title, "not measured")
        return
    panel.set_ylim(min(-0.03 * highest, 1.05 * lowest), 1.05 * highest or 1.0)
    if lowest < 0:
        panel.axhline(0, color="#B0B0B0", linewidth=0.8, zorder=1)
    panel.set_title(title, color=INK)
    panel.set_ylabel(label)
    steps_axis(panel, records, "step")


def _rest(area: Any, records: Sequence[Record]) -> None:
    """Distinct groups before and after the estimator; below it κ and a filter's keep ratio, where there is one."""
    shares = [
        ("κ of DVAO", "advantage/dvao_kappa", "#332288"),
        ("kept by the filter", "advantage/keep_ratio", "#117733"),
    ]
    found = [(title, metrics.series(records, metric), colour) for title, metric, colour in shares]
    found = [one for one in found if one[1][0] and (one[0].startswith("κ") or min(one[1][1]) < 1)]
    panels = area.subplots(1 + len(found), 1, sharex=True, squeeze=False).flatten()
    _distinct(panels[0], records, alone=not found)
    for panel, (title, (steps, values), colour) in zip(panels[1:], found, strict=True):
        curve(panel, steps, values, colour)
        panel.set_ylim(-0.05, 1.05)
        panel.set_title(f"{title}   {quarters(values)[1]:.2f}", color=colour, fontsize=9)
        steps_axis(panel, records)
    panels[-1].set_xlabel("step")


def _distinct(panel: Axes, records: Sequence[Record], alone: bool) -> None:
    before, after = (metrics.series(records, f"advantage/{name}") for name in ("distinct_rewards", "distinct"))
    if not before[0] or not after[0]:
        empty(panel, "distinct groups", "not measured")
        return
    curve(panel, *before, GREY, (0, (4, 1.2)))
    curve(panel, *after, "#0072B2")
    panel.set_ylim(0, 1.1 * max(before[1] + after[1]))
    counts = f"{quarters(after[1])[1]:.1f} of {quarters(before[1])[1]:.1f} (dashed)"
    panel.set_title(f"distinct groups   {counts}", color=INK, fontsize=10.5 if alone else 9)
    panel.set_ylabel("by advantage\n(dashed: by rewards)" if alone else "")
    steps_axis(panel, records)
