"""What scoring one rollout by one reward came to. Nothing turns one kind into another on the way.

A score, *not applicable* (the reward has nothing to say about this rollout), or *failed with a cause*. The last two are
excluded from statistics and contribute nothing; neither ever counts as a score of 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Outcome:
    """``score`` if there is one; ``failure`` names the cause if scoring failed; neither: not applicable."""

    score: float | None = None
    failure: str | None = None

    @classmethod
    def of(cls, returned: Any) -> Outcome:
        """The outcome that a reward function's return value stands for: a number, None, or a dict with ``score``."""
        value = returned.get("score") if isinstance(returned, dict) else returned
        if isinstance(returned, dict) and "score" not in returned:
            return cls(failure=f"returned a dict without 'score': {sorted(map(str, returned))}")
        if value is None:
            return cls()
        if isinstance(value, bool):
            return cls(float(value))
        try:
            if isinstance(value, str | bytes):
                raise TypeError
            score = float(value)
        except (TypeError, ValueError):
            return cls(failure=f"returned {type(value).__name__}, not a number")
        if not math.isfinite(score):
            return cls(failure=f"returned {score}")
        return cls(score)
