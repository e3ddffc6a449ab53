"""Another reward's rank among the responses to the same prompt. Needs ``scope: group``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def bounds(**options: Any) -> tuple[float, float]:
    return 0.0, 1.0


def needs(*, of: str) -> list[str]:
    """The rewards that must be scored before."""
    return [of]


def rank(
    prompt: Any, responses: Sequence[str], ground_truth: Any, extras: Sequence[dict[str, Any]], *, of: str
) -> list[float | None]:
    """0 for the lowest score of the reward ``of``, 1 for the highest, in equal steps between; equal scores share the
    mean of their ranks. So only the order of a judge's scores counts, whatever their scale and outliers. Not applicable
    where ``of`` has no score, and with fewer than two that have one.

    Raises:
        KeyError: there is no reward ``of`` that looks at each rollout alone.
    """
    scores = [extra["rewards"][of] for extra in extras]
    known = sorted(score for score in scores if score is not None)
    if len(known) < 2:
        return [None] * len(scores)
    places: dict[float, list[int]] = {}
    for place, score in enumerate(known):
        places.setdefault(score, []).append(place)
    return [
        None if score is None else (places[score][0] + places[score][-1]) / 2 / (len(known) - 1) for score in scores
    ]
