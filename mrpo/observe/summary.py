"""What a report says about a run in numbers: quarters, rolling means, and the rollouts worth reading."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TypeVar

from mrpo.record.jsonl import Record
from mrpo.record.metrics import number
from mrpo.record.run_folder import RunFolder

_T = TypeVar("_T")


def quarters(values: list[float]) -> tuple[float, float]:
    """Means of the first and of the last quarter of a non-empty list; at least one value each."""
    return fmean(values[: max(1, len(values) // 4)]), fmean(last_quarter(values))


def last_quarter(values: Sequence[_T]) -> Sequence[_T]:
    """At least one, if there is any."""
    return values[-max(1, len(values) // 4) :]


def window(count: int) -> int:
    """Steps in a rolling mean: a tenth of the run, odd; 1 (no smoothing) for a run of few steps."""
    return 1 if count < 15 else max(3, count // 10 // 2 * 2 + 1)


def smooth(values: list[float], width: int) -> list[float]:
    """A centred rolling mean over ``width`` values, over fewer near the ends."""
    half = width // 2
    return [fmean(values[max(0, place - half) : place + half + 1]) for place in range(len(values))]


def total_reward(rollout: Mapping[str, object]) -> float:
    """The plain sum of a rollout's rewards; one that doesn't apply or failed adds nothing."""
    rewards = rollout.get("rewards")
    return sum(number(rewards, name) or 0.0 for name in rewards) if isinstance(rewards, Mapping) else 0.0


def samples(folder: RunFolder) -> list[tuple[str, Record]]:
    """Rollouts to read: the run's first one, and of the last step the best, the worst and the last one.

    Best and worst go by the plain sum of rewards, then by advantage. A rollout is listed once.
    """
    steps = folder.rollout_steps()
    first = next(((step, rows) for step in steps if (rows := folder.read_rollouts(step))), None)
    last = next(((step, rows) for step in reversed(steps) if (rows := folder.read_rollouts(step))), None)
    if first is None or last is None:
        return []
    (first_step, earliest), (last_step, latest) = first, last
    ranked = sorted(latest, key=lambda rollout: (total_reward(rollout), number(rollout, "advantage") or 0.0))
    chosen = [
        (f"Best of step {last_step}", ranked[-1]),
        (f"Worst of step {last_step}", ranked[0]),
        (f"First of step {first_step}", earliest[0]),
        (f"Last of step {last_step}", latest[-1]),
    ]
    unique: dict[tuple[object, ...], tuple[str, Record]] = {}
    for label, rollout in chosen:
        unique.setdefault((rollout["step"], rollout["uid"], rollout["sample"]), (label, rollout))
    return list(unique.values())
