"""A symmetric matrix over pairs of rewards as a small triangle of numbers on colours."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from mrpo.observe.axes import FAINT, INK, decimals, empty, short
from mrpo.observe.summary import last_quarter
from mrpo.record import metrics
from mrpo.record.jsonl import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def pair_means(records: Sequence[Record], metric: str, rewards: Sequence[str]) -> dict[tuple[int, int], float]:
    """``metric/<a>/<b>`` of every pair, in either order: its mean over the last quarter of the steps that have it.

    Returns:
        By the places of the two rewards, the later one first. Pairs that no step measured are absent.
    """
    means = {}
    for later, a in enumerate(rewards):
        for earlier, b in enumerate(rewards[:later]):
            for name in (f"{metric}/{b}/{a}", f"{metric}/{a}/{b}"):
                if values := metrics.series(last_quarter(records), name)[1]:
                    means[later, earlier] = fmean(values)
    return means


def draw_pairs(
    panel: Axes,
    title: str,
    label: str,
    rewards: Sequence[str],
    values: dict[tuple[int, int], float],
    colours: str,
    low: float,
) -> None:
    """Draw the pairs' values, which lie between ``low`` and 1, in matplotlib's colour map ``colours``."""
    if not values:
        why = "the last steps measured none" if len(rewards) > 1 else "takes two rewards"
        empty(panel, title, why)
        return
    from matplotlib import colormaps
    from matplotlib.patches import Rectangle

    size, map_ = len(rewards), colormaps[colours]
    fontsize = 10 if size <= 4 else 8.5 if size <= 6 else 7
    for later in range(1, size):
        for earlier in range(later):
            value = values.get((later, earlier))
            # The map's ends are too dark to tell apart, so only nine tenths of it are used.
            colour = "#F4F4F4" if value is None else map_(0.5 + 0.9 * ((value - low) / (1 - low) - 0.5))
            panel.add_patch(Rectangle((earlier, later), 1, 1, facecolor=colour, edgecolor="white", linewidth=1.5))
            shown = "–" if value is None else _label(value)
            ink = FAINT if value is None else "white" if _dark(colour) else INK
            panel.text(earlier + 0.5, later + 0.5, shown, ha="center", va="center", color=ink, fontsize=fontsize)
    panel.set_xlim(0, size - 1)
    panel.set_ylim(size, 1)
    panel.set_xticks(
        [place + 0.5 for place in range(size - 1)], [short(r, 16 if size <= 4 else 11) for r in rewards[:-1]]
    )
    panel.set_yticks([place + 0.5 for place in range(1, size)], [short(r, 16) for r in rewards[1:]])
    if size > 3:
        panel.tick_params(axis="x", rotation=35)
        for tick in panel.get_xticklabels():
            tick.set(ha="right", rotation_mode="anchor")
    panel.tick_params(length=0, labelsize=8.5 if size <= 6 else 7.5)
    panel.grid(visible=False)
    for side in ("left", "bottom"):
        panel.spines[side].set_visible(False)
    panel.set_title(title, color=INK)
    panel.set_xlabel(label, fontsize=8.5, labelpad=6)


def _label(value: float) -> str:
    """Two digits, without the 0 before the point."""
    return decimals(value).replace("0.", ".", 1)


def _dark(colour: object) -> bool:
    from matplotlib.colors import to_rgb

    red, green, blue = to_rgb(colour)  # type: ignore[arg-type]
    return 0.299 * red + 0.587 * green + 0.114 * blue < 0.55
