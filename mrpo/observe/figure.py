"""The one picture of a run: a panel for every reward, then response length, where a step's time goes, the policy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from mrpo.observe.axes import GREY, INK, STYLE, band, curve, empty, reward_style, short, steps_axis
from mrpo.observe.summary import quarters, window
from mrpo.observe.timing import draw_step_time
from mrpo.record import metrics
from mrpo.record.jsonl import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_POLICY = (
    ("entropy (nats)", ("train/entropy",)),
    ("KL", ("train/kl_loss", "train/ppo_kl")),
    ("gradient norm", ("train/grad_norm",)),
)
_VALIDATION: Any = {"linestyle": "none", "marker": "D", "markersize": 6, "markeredgecolor": "white", "clip_on": False}


def write_figure(path: Path, title: str, subtitle: str, records: Sequence[Record], rewards: Sequence[str]) -> None:
    """Draw the steps' metrics into a PNG file. Steps and metrics may be missing; without any, the panels say so."""
    import matplotlib

    with matplotlib.rc_context(STYLE):
        _draw(title, subtitle, records, rewards).savefig(path, format="png", dpi=130, facecolor="white")


def _draw(title: str, subtitle: str, records: Sequence[Record], rewards: Sequence[str]) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # no pyplot: no global state, no display
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    columns = max(1, len(rewards))
    if columns > 4:  # whichever of 3 and 4 leaves fewer holes
        columns = min(4, 3, key=lambda width: -len(rewards) % width)
    rows = max(1, -(-len(rewards) // columns))
    heights = [2.7] * rows + [2.7]
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1, hspace=0.04, wspace=0.03)
    figure = Figure(figsize=(12.5, sum(heights) + 1.0), layout=layout)
    FigureCanvasAgg(figure)
    figure.suptitle(title, x=0.012, ha="left", fontsize=15, fontweight="bold", color=INK)
    parts: Any = figure.subfigures(2, 1, height_ratios=[sum(heights[:-1]) + 0.35, heights[-1]])
    top, bottom = parts
    top.suptitle(subtitle, x=0.012, ha="left", fontsize=9.5, color="#555555")
    _key(top, window(len(records)), any(metrics.validation(records, reward)[0] for reward in rewards))
    _rewards(top.subplots(rows, columns, squeeze=False).flatten(), records, rewards)
    length, time, policy = bottom.subfigures(1, 3, width_ratios=[1, 1.25, 1])
    _length(length.subplots(), records)
    draw_step_time(time.subplots(), records)
    _policy(policy, records)
    return figure


def _rewards(panels: Sequence[Axes], records: Sequence[Record], rewards: Sequence[str]) -> None:
    means = {reward: metrics.series(records, f"reward/{reward}/mean") for reward in rewards}
    longest = 84 // min(4, max(1, len(rewards))) - 4  # letters that fit over a panel, beside the numbers
    for place, panel in enumerate(panels):
        if place >= len(rewards):
            panel.set_visible(bool(not rewards and not place))
            if not rewards:
                empty(panel, "rewards", "no reward metrics yet")
            continue
        reward, (colour, _) = rewards[place], reward_style(place)
        steps, mean = means[reward]
        if not steps:
            empty(panel, reward, "not in any step yet")
            continue
        spread = dict(zip(*metrics.series(records, f"reward/{reward}/std"), strict=True))
        band(
            panel, [(s, m - spread[s], m + spread[s]) for s, m in zip(steps, mean, strict=True) if s in spread], colour
        )
        curve(panel, steps, mean, colour)
        first, last = quarters(mean)
        change = f"   {first:.2f} → {last:.2f}" if len(mean) > 1 else f"   {last:.2f}"
        panel.set_title(f"{short(reward, longest)}{change}", color=colour)
        validated, scores = metrics.validation(records, reward)
        if validated:  # an unclipped line without points would count as infinitely large in the layout
            panel.plot(validated, scores, **_VALIDATION | {"markerfacecolor": colour}, zorder=4)
        if min(mean + scores) >= 0 and max(mean + scores) <= 1:
            panel.set_ylim(-0.03, 1.03)
        if place == 0:
            panel.set_ylabel("reward (mean of a step)")
        steps_axis(panel, records)


def _key(area: Any, width: int, validated: bool) -> None:
    """What lines, bands and markers mean, once for all rewards, above the panels where it can't cover a curve."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    lines = [Line2D([], [], color=GREY, linewidth=1.8, label="each step")]
    if width > 1:
        lines[0].set(linewidth=0.8, alpha=0.6)
        lines.append(Line2D([], [], color=GREY, linewidth=2.2, label=f"mean of {width} steps"))
    handles = [*lines, Patch(color=GREY, alpha=0.18, linewidth=0, label="±1 std over rollouts")]
    if validated:
        handles.append(Line2D([], [], **_VALIDATION | {"markerfacecolor": GREY}, label="validation"))
    area.legend(handles=handles, loc="upper right", ncols=len(handles), borderaxespad=0.3)


def _length(panel: Axes, records: Sequence[Record]) -> None:
    steps, mean = metrics.series(records, "rollout/response_length/mean")
    if not steps:
        empty(panel, "response length", "not measured")
        return
    lows, highs = (
        dict(zip(*metrics.series(records, f"rollout/response_length/{e}"), strict=True)) for e in ("min", "max")
    )
    range_ = [(step, lows[step], highs[step]) for step in steps if step in lows and step in highs]
    band(panel, range_, "#44546A")
    curve(panel, steps, mean, "#44546A")
    panel.set_title(f"response length   {quarters(mean)[1]:.1f}", color=INK)
    panel.set_ylabel("tokens (band: shortest to longest)" if range_ else "tokens")
    panel.set_ylim(bottom=0)
    steps_axis(panel, records, "step")


def _policy(area: Any, records: Sequence[Record]) -> None:
    found = []
    for label, candidates in _POLICY:
        curves = [(name, metrics.series(records, name)) for name in candidates]
        if present := [(label, curve) for _, curve in curves if curve[0]]:
            found.append(present[0])
    if not found:
        empty(area.subplots(), "policy", "not measured")
        return
    panels = area.subplots(len(found), 1, sharex=True, squeeze=False).flatten()
    for panel, (label, (steps, values)), colour in zip(panels, found, ("#332288", "#882255", "#117733"), strict=False):
        curve(panel, steps, values, colour)
        panel.set_title(f"{label}   {fmean(values[-window(len(values)) :]):.3g}", color=colour, fontsize=9)
        panel.locator_params(axis="y", nbins=3)
        panel.grid(axis="x", visible=False)
    steps_axis(panels[-1], records, "step")
