"""The calculator's three rewards, each 0 or 1.

They conflict: an answer without any call is the shortest way and nearly always wrong, and a model that asks twice is
right as well.
"""

from __future__ import annotations

import re
from typing import Any

_ANSWER = re.compile(r"<answer>(-?\d+)</answer>")


def right(prompt: Any, response: str, ground_truth: str, extra: dict[str, Any]) -> float:
    """The last number of the last turn is the result."""
    numbers = re.findall(r"-?\d+", response)
    return float(bool(numbers) and numbers[-1] == ground_truth)


def few_calls(prompt: Any, response: str, ground_truth: str, extra: dict[str, Any]) -> float:
    """The calculator was called at most once."""
    return float(len(extra["tool_calls"]) <= 1)


def well_formed(prompt: Any, response: str, ground_truth: str, extra: dict[str, Any]) -> float:
    """Every call had a result, and the last turn is a number in answer tags and nothing else."""
    answered = all(call["failure"] is None for call in extra["tool_calls"])
    return float(answered and _ANSWER.fullmatch(response.strip()) is not None)
