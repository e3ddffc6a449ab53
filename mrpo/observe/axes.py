"""What all panels of the figures share. Imported only where matplotlib is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mrpo.observe.summary import smooth, window
from mrpo.record.jsonl import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, FAINT, GREY = "#222222", "#8A8A8A", "#666666"
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#B0B0B0",
    "axes.labelcolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#EBEBEB",
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "legend.frameon": False,
    "legend.fontsize": 8,
}
# Okabe and Ito's colours, which every kind of colour vision can tell apart (without yellow, too pale for a line), then
# two of Tol's, which are darker than all of those.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#332288")
_DASHES: tuple[Any, ...] = ("-", (0, (4, 1.2)), (0, (1, 1)))


def reward_style(place: int) -> tuple[str, Any]:
    """Colour and line style of the reward in this place; from the fifth on, the dashes differ too."""
    return _COLOURS[place % len(_COLOURS)], _DASHES[place // 4 % len(_DASHES)]


def short(name: str, longest: int) -> str:
    return name if len(name) <= longest else f"{name[: longest - 1]}…"


def decimals(value: float, digits: int = 2) -> str:
    """With a real minus sign, as the axes have it, and none before a zero."""
    shown = f"{abs(value):.{digits}f}"
    return f"−{shown}" if value < 0 and float(shown) else shown


def steps_axis(panel: Axes, records: Sequence[Record], label: str = "") -> None:
    from matplotlib.ticker import MaxNLocator

    first, last = int(records[0]["step"]), int(records[-1]["step"])
    panel.set_xlim(first - 0.5, last + 0.5)
    panel.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    panel.set_xlabel(label)
    panel.grid(axis="x", visible=False)


def curve(panel: Axes, steps: list[int], values: list[float], colour: str, dashes: Any = "-") -> None:
    """A thin line through every step, and a bold one through the rolling mean once there are steps enough for one."""
    width = window(len(values))
    if width == 1:
        panel.plot(steps, values, color=colour, linestyle=dashes, linewidth=1.8, marker="o", markersize=3.5)
        return
    panel.plot(steps, values, color=colour, linewidth=0.8, alpha=0.45)
    panel.plot(steps, smooth(values, width), color=colour, linestyle=dashes, linewidth=2.2)


def band(panel: Axes, lows: Sequence[tuple[int, float, float]], colour: str, alpha: float = 0.13) -> None:
    """Shade from the second to the third number of each (step, low, high), both as smooth as the curve."""
    if lows:
        steps, low, high = map(list, zip(*lows, strict=True))
        width = window(len(steps))
        panel.fill_between(steps, smooth(low, width), smooth(high, width), color=colour, alpha=alpha, linewidth=0)


def empty(panel: Axes, title: str, why: str) -> None:
    panel.set_title(title, color=FAINT)
    panel.text(0.5, 0.5, why, transform=panel.transAxes, ha="center", va="center", color=FAINT)
    panel.set_xticks([])
    panel.set_yticks([])
    panel.grid(visible=False)
