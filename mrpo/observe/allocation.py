"""The budget's allocation: rollouts per prompt, against the variance that they turned out to have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mrpo.observe.axes import GREY, INK, band, curve, decimals, empty, steps_axis
from mrpo.observe.prompts import RecentPrompts, rank_correlation
from mrpo.observe.summary import quarters
from mrpo.record import metrics
from mrpo.record.jsonl import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_REALIZED, _EXPECTED = "#0072B2", (GREY, (0, (4, 1.2)))


def uniform_note(records: Sequence[Record]) -> str | None:
    """One line for a budget that was uniform, or that no step has numbers of; None if any step wasn't uniform."""
    sizes = [(metrics.number(record, "budget/n/min"), metrics.number(record, "budget/n/max")) for record in records]
    known = [(low, high) for low, high in sizes if low is not None and high is not None]
    if not known:
        return "No step says how its rollouts were divided."
    if any(low != high for low, high in known):
        return None
    counts = sorted({low for low, _ in known})
    if len(counts) == 1:
        return f"Every prompt got {counts[0]:g} rollouts in every step: the budget was uniform."
    return f"Every prompt of a step got the same number of rollouts, {counts[0]:g} to {counts[-1]:g} by step."


def draw_allocation(area: Any, records: Sequence[Record], recent: RecentPrompts | None) -> None:
    """Two rows of panels into a part of a figure, for a budget that isn't uniform."""
    _key(area)
    (sizes, signal, spread), (history, by_variance, by_mean) = area.subplots(2, 3)
    _sizes(sizes, records)
    _pair(signal, records, "zero-signal groups", "budget/zero_signal", "uniform", "budget/zero_signal/uniform")
    signal.set_ylabel("share of groups")
    signal.set_ylim(-0.03, 1.03)
    realized, predicted = "budget/variance/realized", "budget/variance/predicted"
    _pair(spread, records, "signal's variance", realized, "predicted", predicted)
    spread.set_ylabel("mean over prompts")
    spread.set_ylim(bottom=0)
    _history(history, records)
    _scatters(by_variance, by_mean, recent)


def _key(area: Any) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    colour, dashes = _EXPECTED
    handles = [
        Line2D([], [], color=_REALIZED, linewidth=2.2, label="in the step (rollouts: median)"),
        Line2D([], [], color=colour, linestyle=dashes, linewidth=2.2, label="from the history before it"),
        Patch(color=_REALIZED, alpha=0.36, linewidth=0, label="10 % to 90 %"),
        Patch(color=_REALIZED, alpha=0.13, linewidth=0, label="min to max"),
    ]
    area.legend(handles=handles, loc="upper right", ncols=4, borderaxespad=0.3, handlelength=2.4)


def _sizes(panel: Axes, records: Sequence[Record]) -> None:
    columns = {
        q: dict(zip(*metrics.series(records, f"budget/n/{q}"), strict=True))
        for q in ("min", "p10", "median", "p90", "max")
    }
    for low, high, alpha in (("min", "max", 0.13), ("p10", "p90", 0.26)):
        steps = [step for step in columns[low] if step in columns[high]]
        band(panel, [(step, columns[low][step], columns[high][step]) for step in steps], _REALIZED, alpha)
    if median := columns["median"]:
        curve(panel, list(median), list(median.values()), _REALIZED)
    panel.set_ylim(bottom=0)
    panel.set_title("rollouts per prompt", color=INK)
    steps_axis(panel, records, "step")


def _pair(
    panel: Axes, records: Sequence[Record], title: str, realized_name: str, label: str, expected_name: str
) -> None:
    expected, realized = metrics.series(records, expected_name), metrics.series(records, realized_name)
    if not realized[0]:
        empty(panel, title, "not measured")
        return
    last = decimals(quarters(realized[1])[1])
    if expected[0]:
        curve(panel, *expected, *_EXPECTED)
        last += f", {label} {decimals(quarters(expected[1])[1])}"
    curve(panel, *realized, _REALIZED)
    panel.set_title(f"{title}   {last}", color=INK)
    steps_axis(panel, records, "step")


def _history(panel: Axes, records: Sequence[Record]) -> None:
    title = "predicted against realized variance"
    steps, values = metrics.series(records, "budget/variance/correlation")
    if not steps:
        empty(panel, title, "no prompt came twice yet")
        return
    panel.axhline(0, color="#B0B0B0", linewidth=0.8, zorder=1)
    curve(panel, steps, values, _REALIZED)
    panel.set_ylim(-1.05, 1.05)
    panel.set_title(f"{title}   {decimals(quarters(values)[1])}", color=INK)
    panel.set_ylabel("correlation over prompts")
    steps_axis(panel, records, "step")


def _scatters(by_variance: Axes, by_mean: Axes, recent: RecentPrompts | None) -> None:
    """A point a prompt: its rollouts by the variance of their weighted reward, and by its mean."""
    if recent is None:
        for panel in (by_variance, by_mean):
            empty(panel, "rollouts of single prompts", "no rollouts on disk")
        return
    when = f"step {recent.last_step}"
    if recent.first_step != recent.last_step:
        when = f"steps {recent.first_step} to {recent.last_step}"
    spreads = [(p.variance, p.rollouts) for p in recent.prompts if p.variance is not None]
    single = len(recent.prompts) - len(spreads)
    left_out = f" ({single} scored once: not shown)" if single else ""
    _scatter(by_variance, spreads, "by variance", f"variance of the weighted reward{left_out}")
    _scatter(by_mean, [(p.mean, p.rollouts) for p in recent.prompts], "by reward", "mean of the weighted reward")
    by_variance.set_ylabel(f"rollouts per draw, {when}")


def _scatter(panel: Axes, points: Sequence[tuple[float, float]], title: str, label: str) -> None:
    if not points:
        empty(panel, title, "no prompt was scored twice")
        return
    rank = rank_correlation(points)
    correlation = "" if rank is None else f"   rank correlation {decimals(rank)}"
    alpha = 0.75 if len(points) < 100 else 0.3
    across, up = zip(*points, strict=True)
    panel.scatter(across, up, s=22, color=_REALIZED, alpha=alpha, linewidth=0)
    panel.set_ylim(0, 1.08 * max(up))
    panel.set_title(f"{title}{correlation}", color=INK)
    panel.set_xlabel(label)
