"""Which estimator fits a batch, and why: thresholds on the diagnostics, each reported with the number that met it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

OPPOSED = -0.2
"""Correlation from which two rewards work against each other. (Independent rewards disagree on many rollouts, too.)"""
CONFLICT = 0.25
"""Share of rollouts with disagreeing rewards from which filtering them can pay."""
SATURATED = 0.9
"""Place in its range from which a reward has little left to teach."""
COLLAPSE = 0.02
"""Share of distinct groups that the summed reward no longer distinguishes."""
DOMINANT = 0.8
"""Share of the summed reward's advantage from which one reward decides alone."""
ALIGNED = 0.9
"""Correlation from which two rewards are one signal."""
MANY_ZERO_VARIANCE = 0.5
"""Share of zero-variance groups from which a caution is due."""


@dataclass(frozen=True)
class Recommendation:
    estimator: str
    reasons: tuple[str, ...]
    cautions: tuple[str, ...]


def recommend(
    names: Sequence[str], metrics: Mapping[str, Mapping[str, float]], unit_scaled: Iterable[str]
) -> Recommendation:
    """``metrics``: the diagnostics by estimator, ``grpo`` and ``gdpo`` at least. ``unit_scaled``: rewards whose bounds
    are known ([0, 1] or declared), so that their saturation means something."""
    grpo, gdpo = metrics["grpo"], metrics["gdpo"]
    live = [name for name in names if gdpo.get(f"reward/{name}/zero_variance_share", 1.0) < 1]
    known = set(unit_scaled)
    saturated = [name for name in live if name in known and gdpo[f"reward/{name}/saturation"] >= SATURATED]
    estimator, reasons = _choose(live, saturated, grpo, gdpo)
    return Recommendation(estimator, tuple(reasons), tuple(_cautions(names, live, gdpo)))


def _choose(
    live: Sequence[str], saturated: Sequence[str], grpo: Mapping[str, float], gdpo: Mapping[str, float]
) -> tuple[str, list[str]]:
    if len(live) < 2:
        varies = f"only {live[0]} varies" if live else "no reward varies"
        return "grpo", [f"{varies} within a group, so there is nothing to combine"]
    opposed, correlation = min(_pairs("correlation", gdpo), key=lambda pair: pair[1], default=("", 0.0))
    conflict = gdpo["advantage/conflict_share"]
    if correlation <= OPPOSED and conflict >= CONFLICT:
        return "gd2po", [
            f"{opposed} work against each other within groups (correlation {correlation:+z.2f}), "
            f"and {conflict:.0%} of the rollouts are pushed up by one reward and down by another"
        ]
    if saturated and len(saturated) < len(live):
        levels = ", ".join(f"{name} at {gdpo[f'reward/{name}/saturation']:.0%} of its range" for name in saturated)
        return "sa_mrpo", [f"saturated, with others left to learn: {levels}"]
    reasons = []
    if grpo["advantage/collapse"] >= COLLAPSE:
        lost, distinct = grpo["advantage/collapse"], grpo["advantage/distinct_rewards"]
        reasons.append(f"summing first (grpo) loses {lost:.0%} of {distinct:.0f} distinct groups")
    for name in live:
        share = grpo.get(f"reward/{name}/advantage_share", 0.0)
        if share >= DOMINANT:
            reasons.append(f"{name} alone makes {share:.0%} of the summed reward's advantage")
    if reasons:
        return "gdpo", reasons
    correlations = [value for _, value in _pairs("correlation", gdpo)]
    if correlations and min(correlations) >= ALIGNED:
        return "grpo", [
            f"the rewards agree (correlations of {min(correlations):.2f} and more), so their sum says it all"
        ]
    return "gdpo", [
        "no reward dominates and none work against each other: each reward normalized by itself is the plain choice"
    ]


def _cautions(names: Sequence[str], live: Sequence[str], gdpo: Mapping[str, float]) -> Iterable[str]:
    for name in names:
        if name not in live:
            yield f"{name} never varies within a group: it teaches nothing, whatever the estimator"
    share = gdpo["advantage/zero_variance_share"]
    if share >= MANY_ZERO_VARIANCE:
        advice = "easier or harder prompts, or larger groups, would help"
        yield f"{share:.0%} of the groups have zero variance in every reward: {advice}"
    for name in names:
        missing = gdpo[f"reward/{name}/missing_share"]
        if missing:
            yield f"{name} is missing in {missing:.1%} of the rollouts: excluded from its statistics, not counted as 0"
    if gdpo["advantage/unscored_share"]:
        yield f"{gdpo['advantage/unscored_share']:.1%} of the rollouts have no score at all and leave the loss"


def _pairs(kind: str, metrics: Mapping[str, float]) -> list[tuple[str, float]]:
    start = f"advantage/{kind}/"
    return [(" and ".join(key[len(start) :].split("/")), v) for key, v in metrics.items() if key.startswith(start)]
