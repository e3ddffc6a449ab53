"""The second picture of a run: why its rewards moved as they did."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mrpo.observe.allocation import draw_allocation, uniform_note
from mrpo.observe.axes import INK, STYLE
from mrpo.observe.contributions import draw_contributions
from mrpo.observe.prompts import RecentPrompts
from mrpo.observe.timeline import draw_timeline, timeline
from mrpo.record.jsonl import Record

_HEAD, _ROW, _LANES = 0.45, 2.75, 1.6


def write_details(
    path: Path,
    records: Sequence[Record],
    rewards: Sequence[str],
    recent: RecentPrompts | None,
    events: Sequence[Record] = (),
) -> None:
    """Draw rewards' contributions, unless the budget was uniform the allocation of rollouts, and, where the events tell
    it, one step as it went, into a PNG file."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # no pyplot: no global state, no display
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    with_budget = uniform_note(records) is None
    step = timeline(records, events)
    heights = [_HEAD + 2 * _ROW + 0.2] + [_HEAD + 2 * _ROW] * with_budget + [_HEAD + _LANES] * (step is not None)
    with matplotlib.rc_context(STYLE):
        layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1, hspace=0.04, wspace=0.03)
        figure = Figure(figsize=(12.5, sum(heights)), layout=layout)
        FigureCanvasAgg(figure)
        areas: Any = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False).flatten()
        _head(areas[0], "Reward contributions to the advantage")
        draw_contributions(areas[0], records, rewards)
        if with_budget:
            _head(areas[1], "Rollout allocation")
            draw_allocation(areas[1], records, recent)
        if step is not None:
            _head(areas[-1], "Who was at work in a step")
            draw_timeline(areas[-1].subplots(), step)
        figure.savefig(path, format="png", dpi=130, facecolor="white")


def _head(area: Any, title: str) -> None:
    area.suptitle(title, x=0.012, ha="left", fontsize=13, fontweight="bold", color=INK)
