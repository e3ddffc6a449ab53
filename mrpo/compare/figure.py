"""The one picture of a comparison: a panel for every reward and for the response length, and the two rewards' front."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrpo.compare.comparison import Comparison
from mrpo.evaluation.compare import LENGTH
from mrpo.observe.axes import GREY, INK, STYLE, empty, reward_style, short
from mrpo.observe.summary import smooth, window

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def write_figure(path: Path, title: str, comparison: Comparison) -> None:
    """Draw it into a PNG file."""
    import matplotlib

    with matplotlib.rc_context(STYLE):
        _draw(title, comparison).savefig(path, format="png", dpi=130, facecolor="white")


def _draw(title: str, comparison: Comparison) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    panels_wanted = len(comparison.measures) + (comparison.pareto is not None)
    columns = min(4, panels_wanted) if panels_wanted != 5 else 3
    rows = -(-panels_wanted // columns)
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1, hspace=0.04, wspace=0.03)
    legend_rows = -(-len(comparison.groups) // 3)
    figure = Figure(figsize=(12.5, 2.9 * rows + 1.1 + 0.22 * legend_rows), layout=layout)
    FigureCanvasAgg(figure)
    subtitle = f"median and interquartile range over seeds, up to {comparison.end:,.0f} {comparison.axis}"
    figure.suptitle(f"{title}: {subtitle}", x=0.012, ha="left", fontsize=12, fontweight="bold", color=INK)
    panels = list(figure.subplots(rows, columns, squeeze=False).flatten())
    for panel, measure in zip(panels, comparison.measures, strict=False):
        _curves(panel, comparison, measure)
    if comparison.pareto is not None:
        _front(panels[len(comparison.measures)], comparison, comparison.pareto)
    for panel in panels[panels_wanted:]:
        panel.set_visible(False)
    _key(figure, comparison)
    return figure


def _curves(panel: Axes, comparison: Comparison, measure: str) -> None:
    drawn = [curve for curve in comparison.curves if curve.measure == measure]
    if not any(curve.x for curve in drawn):
        empty(panel, measure, "no values")
        return
    values: list[float] = []
    for place, curve in enumerate(drawn):
        if not curve.x:
            continue
        colour, dashes = reward_style(place)
        width = window(len(curve.x))
        low, median, high = (smooth(list(part), width) for part in (curve.low, curve.median, curve.high))
        style: Any = {"color": colour, "linestyle": dashes, "linewidth": 2.0}
        panel.plot(curve.x, median, **style, marker="o" if len(curve.x) < 15 else None, markersize=3)
        if max(curve.runs) > 1:
            panel.fill_between(curve.x, low, high, color=colour, alpha=0.15, linewidth=0)
        values += [*low, *high]
    panel.set_title(short(measure, 40), color=INK)
    panel.set_xlabel(comparison.axis)
    panel.grid(axis="x", visible=False)
    if measure == LENGTH:
        panel.set_ylabel("tokens")
    elif min(values) >= 0 and max(values) <= 1:
        panel.set_ylim(-0.03, 1.03)


def _front(panel: Axes, comparison: Comparison, rewards: tuple[str, str]) -> None:
    """Final values of two rewards: a dot a run, a larger one for the group's mean, and a line through the front."""
    front = []
    for place, group in enumerate(comparison.groups):
        colour, _ = reward_style(place)
        first, second = (comparison.line(group.name, reward) for reward in rewards)
        pairs = [(first.finals[run], second.finals[run]) for run in first.finals]
        for a, b in pairs:
            if a is not None and b is not None:
                panel.plot([a], [b], marker="o", markersize=3.5, color=colour, alpha=0.45, linestyle="none")
        if first.mean is not None and second.mean is not None:
            a, b = first.mean.value, second.mean.value
            panel.plot([a], [b], marker="D", markersize=8, color=colour, markeredgecolor="white", linestyle="none")
            front += [(a, b)] if comparison.front[group.name] else []
    if len(front) > 1:
        panel.plot(*zip(*sorted(front), strict=True), color=GREY, linewidth=1, zorder=0)
    panel.set_title("final values, line: Pareto front", color=INK)
    panel.set_xlabel(short(rewards[0], 30))
    panel.set_ylabel(short(rewards[1], 30))


def _key(figure: Any, comparison: Comparison) -> None:
    from matplotlib.lines import Line2D

    handles = []
    for place, group in enumerate(comparison.groups):
        colour, dashes = reward_style(place)
        label = f"{short(group.name, 55)} ({len(group.runs)})"
        handles.append(Line2D([], [], color=colour, linestyle=dashes, linewidth=2, label=label))
    figure.legend(handles=handles, loc="outside lower left", ncols=min(3, len(handles)))
