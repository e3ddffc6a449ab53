"""From the recorded validation rollouts of several models to one comparison: every model, data source and reward.

The first model is what the others are compared with, prompt by prompt. A prompt is known by its uid, which is made of
its content. Shapes: G prompts of a data source, R rollouts of one model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median_low
from typing import Any

import numpy as np

from mrpo.evaluation.statistics import FloatArray, Interval, mean, paired_difference, pass_at_k, powers_of_two
from mrpo.evaluation.statistics import prompt_means as means_of
from mrpo.record.jsonl import Record
from mrpo.record.metrics import number

LENGTH, TRUNCATED = "response length", "truncated"
"""Measures beside the rewards: tokens of a response, and the share that reached the maximum length before its end."""


@dataclass(frozen=True)
class Line:
    """One measure of one model on one data source."""

    model: str
    data_source: str
    measure: str
    """A reward's name, ``response length`` or ``truncated``."""
    mean: Interval | None
    """Over prompts; None: no rollout has a value."""
    difference: Interval | None
    """To the first model, over the prompts that both have a value for; None for the first itself."""
    prompts: int
    """Prompts that have a value."""
    rollouts: int
    """Rollouts that have a value."""
    failed: int = 0
    """Rollouts in which this reward failed. They are in no mean."""
    pass_at: dict[int, Interval] = field(default_factory=dict)
    """By k, for a reward whose scores are its lowest and its highest only, where there are several samples."""

    def as_json(self) -> dict[str, Any]:
        """Plain JSON; intervals as ``{"value": …, "low": …, "high": …}``."""

        def plain(interval: Interval | None) -> dict[str, float | None] | None:
            return None if interval is None else interval._asdict()

        intervals = {"mean": plain(self.mean), "difference": plain(self.difference)}
        return asdict(self) | intervals | {"pass_at": {str(k): plain(one) for k, one in self.pass_at.items()}}


def compare(
    models: Mapping[str, Sequence[Record]],
    rewards: Mapping[str, tuple[float, float] | None],
    max_response_length: int,
    seed: int = 0,
) -> list[Line]:
    """Every measure of every model, by data source, then measure, then model.

    Args:
        models: by name, the rows that validation recorded (``RunFolder.read_validation``); the first is the baseline.
        rewards: the rewards' names with their ranges, if they declare one.
        max_response_length: in tokens; a response of so many is truncated, where its row doesn't say.
        seed: of the bootstrap, the same for all lines.

    Raises:
        ValueError: the models weren't asked the same prompts.
    """
    baseline, *_ = models
    prompts = {name: {(row["data_source"], row["uid"]) for row in rows} for name, rows in models.items()}
    for name, asked in prompts.items():
        if odd := asked ^ prompts[baseline]:
            raise ValueError(f"{name} and {baseline} were not asked the same prompts: {len(odd)} differ")
    lines = []
    for source in sorted({source for source, _ in prompts[baseline]}):
        uids = {uid: g for g, uid in enumerate(sorted(uid for of, uid in prompts[baseline] if of == source))}
        rows = {name: [row for row in all_rows if row["data_source"] == source] for name, all_rows in models.items()}
        place = {name: [uids[row["uid"]] for row in of_source] for name, of_source in rows.items()}
        # A reward may be called like a measure: which of the two it is goes along.
        for measure, of_rewards in [*((name, True) for name in rewards), (LENGTH, False), (TRUNCATED, False)]:
            values = {name: _values(of, measure, of_rewards, max_response_length) for name, of in rows.items()}
            means_G = {name: means_of(values[name], place[name], len(uids)) for name in models}
            ends = _two_values(values.values(), rewards[measure]) if of_rewards else None
            for name in models:
                lines.append(
                    Line(
                        model=name,
                        data_source=source,
                        measure=measure,
                        mean=mean(means_G[name], seed),
                        difference=None
                        if name == baseline
                        else paired_difference(means_G[name], means_G[baseline], seed),
                        prompts=int((~np.isnan(means_G[name])).sum()),
                        rollouts=int((~np.isnan(values[name])).sum()),
                        failed=sum(of_rewards and measure in row.get("failures", {}) for row in rows[name]),
                        pass_at={} if ends is None else _pass_at(values[name], place[name], len(uids), ends, seed),
                    )
                )
    return lines


def _values(rows: Sequence[Record], measure: str, of_rewards: bool, max_response_length: int) -> FloatArray:
    """The measure of each of the R rows; NaN where there is none."""
    if of_rewards:
        found = [number(row["rewards"], measure) for row in rows]
    elif measure == LENGTH:
        found = [number(row, "tokens") for row in rows]
    else:
        found = [_truncated(row, max_response_length) for row in rows]
    return np.array([math.nan if value is None else value for value in found], dtype=np.float64)


def _truncated(row: Record, max_response_length: int) -> float | None:
    """Whether the response was truncated. Rows of earlier versions don't say, and a length is all there is."""
    if isinstance(known := row.get("truncated"), bool):
        return float(known)
    tokens = number(row, "tokens")
    return None if tokens is None else float(tokens >= max_response_length)


def _two_values(values: Any, bounds: tuple[float, float] | None) -> tuple[float, float] | None:
    """(failure, success) of a reward whose scores are nothing else: the ends of its range, or 0 and 1."""
    low, high = bounds or (0.0, 1.0)
    scores = np.concatenate(list(values))
    scores = scores[~np.isnan(scores)]
    return (low, high) if len(scores) and np.isin(scores, (low, high)).all() else None


def _pass_at(
    values_R: FloatArray, prompt_of_R: Sequence[int], prompts: int, ends: tuple[float, float], seed: int
) -> dict[int, Interval]:
    """By k, as far as half of the prompts have samples: more of a prompt may be there since its row is there twice."""
    known = ~np.isnan(values_R)
    place = np.asarray(prompt_of_R, dtype=np.int64)[known]
    samples_G = np.bincount(place, minlength=prompts)
    successes_G = np.bincount(place[values_R[known] == ends[1]], minlength=prompts)
    most = median_low(samples_G[samples_G > 0].tolist() or [0])
    found = {k: mean(pass_at_k(samples_G, successes_G, k), seed) for k in powers_of_two(most)} if most > 1 else {}
    return {k: interval for k, interval in found.items() if interval is not None}
