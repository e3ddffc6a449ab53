"""Which figures of a run grow with its steps, by the samples of one attempt that nothing disturbed.

A slope is Theil-Sen's: the median of the slopes between all pairs of steps, so that a save, a validation or a garbage
collection moves it little. Its unit is the figure's, per 1000 steps.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from scipy.stats import theilslopes

from .sample import Sample

MIN_STEPS = 200
"""Fewer steps after the warm-up tell nothing of growth."""
BOUNDS = {"PSS MiB": 10.0, "descriptors": 1.0, "threads": 10.0, "processes": 1.0, "files": 1.0, "MiB": 1.0}
"""Largest slope by figure: of memory, descriptors and threads for each process of the role. A week of steps of a minute
is 10,000 steps."""
BY_PROCESS = ("PSS MiB", "descriptors", "threads")
PER_STEP = {
    "run folder: metrics.jsonl": 32.0,
    "run folder: events.jsonl": 8.0,
    "run folder: rollouts": 256.0,
    "run folder: validation_rollouts": 64.0,
    "logs": 16.0,
    "log:": 4.0,
    "what the command prints": 4.0,
}
"""What is written by the step (its role begins so), and the most KiB that a step of the quickstart may add to it: no
more late in a run than early."""
PER_STEP_FILES = {"run folder: rollouts": 1.1, "run folder: validation_rollouts": 0.05}
LATE_OVER_EARLY = 1.25


@dataclass(frozen=True)
class Verdict:
    """One figure of one role."""

    role: str
    figure: str
    start: float
    end: float
    slope: float
    """Per 1000 steps."""
    bound: float
    grows: bool
    why: str = ""

    def __str__(self) -> str:
        what = f"{self.role}: {self.figure} {self.start:.1f} -> {self.end:.1f}, {self.slope:+.2f} per 1000 steps"
        return f"{what}, allowed {self.bound:g}{', ' if self.why else ''}{self.why}"


def judge(samples: Sequence[Sample], warm_up: int) -> list[Verdict]:
    """A verdict on each figure of the attempt with the most steps, from ``warm_up`` steps after its first on.

    Raises:
        ValueError: there are too few steps.
    """
    longest = longest_attempt(samples)
    first = longest[0]["step"] + warm_up if longest else 0
    steps = max(0, longest[-1]["step"] - first) if longest else 0
    judged = [sample for sample in longest if first <= sample["step"] < first + steps]  # in the last one it ends
    if steps < MIN_STEPS:
        raise ValueError(f"{steps} steps after the first {warm_up} of an attempt: {MIN_STEPS} are needed to judge")
    names = sorted({name for sample in judged for name in sample["figures"]})
    at_first = judged[0]["figures"]
    return [
        _verdict(role, figure, series(judged, f"{role}/{figure}"), at_first.get(f"{role}/processes", 1))
        for role, figure in (name.rsplit("/", 1) for name in names)
    ]


def longest_attempt(samples: Sequence[Sample]) -> list[Sample]:
    by_attempt: defaultdict[int, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_attempt[sample["attempt"]].append(sample)
    return max(by_attempt.values(), key=lambda those: those[-1]["step"] - those[0]["step"], default=[])


def series(samples: Sequence[Sample], name: str) -> list[tuple[int, float]]:
    """The median of a figure's samples in each step. A role that isn't there takes nothing."""
    by_step: defaultdict[int, list[float]] = defaultdict(list)
    for sample in samples:
        by_step[sample["step"]].append(sample["figures"].get(name, 0.0))
    return [(step, median(values)) for step, values in sorted(by_step.items())]


def slope(points: Sequence[tuple[int, float]]) -> float:
    """Per 1000 steps.

    >>> slope([(step, 5 + 0.002 * step) for step in range(100)])
    2.0
    """
    steps, values = zip(*points, strict=True)
    return round(float(theilslopes(values, steps).slope) * 1000, 6)


def _verdict(role: str, figure: str, points: list[tuple[int, float]], processes: float) -> Verdict:
    tenth = max(1, len(points) // 10)
    start, end = (median(value for _, value in part) for part in (points[:tenth], points[-tenth:]))
    found = slope(points)
    per_step = PER_STEP if figure == "MiB" else PER_STEP_FILES if figure == "files" else {}
    allowed = next((most for beginning, most in per_step.items() if role.startswith(beginning)), None)
    if allowed is None:
        most = BOUNDS[figure] * (processes if figure in BY_PROCESS else 1)
        return Verdict(role, figure, start, end, found, most, found > most)
    bound = allowed * (1000 / 1024 if figure == "MiB" else 1000)
    half = len(points) // 2
    early, late = slope(points[:half]), slope(points[half:])
    faster = late > LATE_OVER_EARLY * early + BOUNDS[figure]
    why = f"by design; early {early:.2f}, late {late:.2f}"
    return Verdict(role, figure, start, end, found, bound, found > bound or faster, why)
