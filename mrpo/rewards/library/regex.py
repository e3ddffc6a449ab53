"""The response matches a regular expression."""

from __future__ import annotations

import re
from typing import Any

from mrpo.rewards.library._limit import OutOfTimeError, limited


class regex:
    """1 if the pattern matches, else 0; 0, too, where that takes too long to find out (``_limit``).

    Args:
        pattern: in the syntax of Python's ``re``; flags go inside, say ``(?is)``: case doesn't count, and a dot is any
            character.
        mode: ``search``: somewhere in the response; ``whole``: the response, stripped, from end to end.

    Raises:
        ValueError: ``pattern`` is no regular expression, or ``mode`` is neither.
    """

    def __init__(self, *, pattern: str, mode: str = "search"):
        if mode not in ("search", "whole"):
            raise ValueError(f"mode: given {mode!r}, allowed: search, whole")
        try:
            self.pattern = re.compile(pattern)
        except re.error as error:
            raise ValueError(f"pattern: given {pattern!r}, which is no regular expression: {error}") from None
        self.whole = mode == "whole"

    def __call__(self, prompt: Any, response: str, ground_truth: Any, extra: dict[str, Any]) -> float:
        try:
            with limited():
                found = self.pattern.fullmatch(response.strip()) if self.whole else self.pattern.search(response)
        except OutOfTimeError:
            return 0.0
        return float(found is not None)


def bounds(**options: Any) -> tuple[float, float]:
    return 0.0, 1.0
