"""The samples of a soak as a picture: what grows, and what a fault left, is seen at a glance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mrpo.observe.axes import STYLE

from .judge import Verdict
from .sample import Sample

PANELS = ("PSS MiB", "descriptors", "threads", "MiB", "files", "processes")
LARGEST = 8


def draw(samples: Sequence[Sample], verdicts: Sequence[Verdict], path: Path) -> None:
    """A panel a figure: the roles that take most of it, over minutes. What grows is drawn thick."""
    import matplotlib
    from matplotlib.figure import Figure

    began = samples[0]["time"]
    minutes = [(sample["time"] - began) / 60 for sample in samples]
    starts = [m for m, a, b in zip(minutes[1:], samples, samples[1:], strict=False) if a["attempt"] != b["attempt"]]
    growing = {f"{verdict.role}/{verdict.figure}" for verdict in verdicts if verdict.grows}
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(15, 4 * len(PANELS) / 2), layout="constrained")
        panels: Any = figure.subplots(-(-len(PANELS) // 2), 2)
        for kind, panel in zip(PANELS, panels.flatten(), strict=True):
            names = {name for sample in samples for name in sample["figures"] if name.rsplit("/", 1)[1] == kind}
            largest = sorted(names, key=lambda n: -max(sample["figures"].get(n, 0) for sample in samples))
            for name in [*largest[:LARGEST], *growing.intersection(largest[LARGEST:])]:
                values = [sample["figures"].get(name, float("nan")) for sample in samples]
                panel.plot(minutes, values, label=name.rsplit("/", 1)[0], linewidth=2.5 if name in growing else 0.9)
            panel.set(title=kind, xlabel="minutes; dotted: an attempt began", yscale="log")
            for start in starts:
                panel.axvline(start, color="#888888", linestyle=":", linewidth=0.8)
            panel.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=7)
        figure.savefig(path, dpi=100)
