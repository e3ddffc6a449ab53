"""What a set of scores looks like before anything trains on it, as tables: is there a signal, and what went wrong.

Shapes: N rows, K rewards.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from rich.console import Console
from rich.table import Table

from mrpo.cli._table import percent, print_whole, table
from mrpo.config.run import RewardConfig
from mrpo.rewards.outcome import Outcome
from mrpo.rewards.source import library_bounds

BARS = " ▁▂▃▄▅▆▇█"
BINS = 10


@dataclass(frozen=True)
class Scored:
    """One reward, and of every row the outcome and the seconds it took."""

    reward: RewardConfig
    results: Sequence[tuple[Outcome, float]] = field(default=())

    @property
    def outcomes(self) -> list[Outcome]:
        return [outcome for outcome, _ in self.results]

    @property
    def scores_N(self) -> np.ndarray:
        """float64; NaN where there is no score."""
        return np.array([math.nan if o.score is None else o.score for o in self.outcomes], dtype=np.float64)

    @property
    def scores(self) -> np.ndarray:
        return self.scores_N[~np.isnan(self.scores_N)]

    @property
    def failed(self) -> int:
        return sum(outcome.failure is not None for outcome in self.outcomes)


def failures_above(max_rate: float, scored: Mapping[str, Scored]) -> list[str]:
    """A line for each reward that failed in more than the share ``max_rate`` of the rows."""
    return [
        f"{name} failed in {one.failed} of {len(one.results)} rows, more than the {max_rate:.1%} of --max-failure-rate"
        for name, one in scored.items()
        if one.failed > max_rate * len(one.results)
    ]


def show(console: Console, scored: Mapping[str, Scored], groups: Sequence[str], places: Sequence[str]) -> None:
    """Print everything there is to say. ``groups`` and ``places`` are each row's prompt and where it is in the file."""
    ids = {group: n for n, group in enumerate(dict.fromkeys(groups))}
    shared = len(ids) < len(groups)
    console.print(f"{len(groups):,} responses to {len(ids):,} prompts", highlight=False)
    print_whole(console, _outcomes(scored))
    print_whole(console, _scores(scored))
    if any(len(one.scores) for one in scored.values()):
        metrics = _diagnose(scored, [ids[group] for group in groups] if shared else [0] * len(groups))
        if len(scored) > 1:
            print_whole(console, _correlations(list(scored), metrics, "within prompts" if shared else "over all rows"))
        if shared:
            print_whole(console, _spread(list(scored), metrics))
    if any(one.failed for one in scored.values()):
        console.print(_failures(scored, places))
    for line in _remarks(scored):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def histogram(scores: np.ndarray, low: float, high: float) -> str:
    """How many scores lie in each tenth of [low, high], as bars; one bar if there is nothing between them."""
    with np.errstate(over="ignore", invalid="ignore"):
        edges = np.linspace(low, high, BINS + 1)
        counts = np.histogram(scores, edges)[0] if (np.diff(edges) > 0).all() else np.array([len(scores)])
    tallest = max(counts.max(initial=0), 1)
    return "".join(BARS[math.ceil((len(BARS) - 1) * count / tallest)] for count in counts)


def _outcomes(scored: Mapping[str, Scored]) -> Table:
    rows = []
    for name, one in scored.items():
        times = [1000 * seconds for _, seconds in one.results]
        counts = (len(one.scores), len(one.results) - len(one.scores) - one.failed, one.failed)
        rows.append((name, *counts, *(f"{np.percentile(times, share):.3g}" for share in (50, 99, 100))))
    return table("Outcomes", ("reward", "scored", "n/a", "failed", "ms: p50", "p99", "max"), rows)


def _scores(scored: Mapping[str, Scored]) -> Table:
    headings = ("reward", "min", "mean", "median", "max", "std", "from", "histogram", "to")
    rows: list[tuple[str | None, ...]] = []
    for name, one in scored.items():
        scores = one.scores
        if not len(scores):
            rows.append((name, *[None] * 5))
            continue
        low, high = one.reward.range or (scores.min(), scores.max())
        numbers = (f"{f(scores):.3g}" for f in (np.min, np.mean, np.median, np.max, np.std))
        rows.append((name, *numbers, f"{low:.3g}", histogram(scores, low, high), f"{high:.3g}"))
    return table("Scores", headings, rows)


def _diagnose(scored: Mapping[str, Scored], group_ids: Sequence[int]) -> dict[str, float]:
    """The metrics that a run would log of these scores, unweighted and without conditions."""
    import torch

    from mrpo.advantages import compute_advantages

    rewards_NK = torch.from_numpy(np.stack([one.scores_N for one in scored.values()], axis=1))
    return compute_advantages(rewards_NK, torch.tensor(group_ids), {"names": tuple(scored)}).diagnostics


def _correlations(names: Sequence[str], metrics: Mapping[str, float], where: str) -> Table:
    rows = []
    for first in names:
        keys = ((f"{first}/{second}", f"{second}/{first}") for second in names)
        values = (metrics.get(f"advantage/correlation/{a}", metrics.get(f"advantage/correlation/{b}")) for a, b in keys)
        rows.append((first, *(None if value is None else f"{value:+z.2f}" for value in values)))
    return table(f"Correlation {where}", ("", *names), rows)


def _spread(names: Sequence[str], metrics: Mapping[str, float]) -> Table:
    shares = {name: metrics.get(f"reward/{name}/zero_variance_share") for name in names}
    shares["all rewards"] = metrics.get("advantage/zero_variance_share")
    rows = ((name, percent(share, 0)) for name, share in shares.items())
    return table("Signal", ("reward", "prompts whose scores are all equal: nothing is learned there"), rows)


def _failures(scored: Mapping[str, Scored], places: Sequence[str]) -> Table:
    rows = []
    for name, one in scored.items():
        causes: dict[str, list[int]] = {}
        for n, outcome in enumerate(one.outcomes):
            if outcome.failure is not None:
                causes.setdefault(outcome.cause or "", []).append(n)
        for cause, failed in sorted(causes.items(), key=lambda item: -len(item[1])):
            reason = (one.outcomes[failed[0]].failure or "").partition(": ")[2]
            rows.append((name, cause, len(failed), places[failed[0]], reason[:200]))
    return table("Failures", ("reward", "cause", "rows", "first", "why"), rows, text_columns=5)


def _remarks(scored: Mapping[str, Scored]) -> Iterator[str]:
    for name, one in scored.items():
        scores, declared = one.scores, one.reward.range
        if len(scores) and scores.min() == scores.max():
            yield f"{name}: constant ({scores[0]:g} in every row), which teaches nothing"
        outside = sum(outcome.cause == "out of range" for outcome in one.outcomes)
        if outside and declared:
            yield f"{name}: {outside} scores are outside its declared range [{declared[0]:g}, {declared[1]:g}]: failed"
        if declared is None and len(scores):
            bounds = library_bounds(one.reward.function, one.reward.options)
            low, high = bounds or (scores.min(), scores.max())
            yield f"{name}: no range declared; {'possible' if bounds else 'seen'} is [{low:.3g}, {high:.3g}]"
