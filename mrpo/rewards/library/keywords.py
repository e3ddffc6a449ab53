"""The response says what it must, says nothing that it mustn't, and as often as it should."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any


class keywords:
    """Share of the conditions that hold; they are IFEval's on keywords (arXiv 2311.07911, table 1).

    Args:
        must: words or phrases that occur, a condition each.
        must_not: words or phrases that don't, a condition each.
        counts: how often a word or phrase occurs, a condition each: a number, or [min, max].
        whole_words: "art" doesn't occur in "start".
        match_case: "Art" isn't "art".

    Raises:
        ValueError: there is no condition, a word is blank, or a count is neither a number nor [min, max].
    """

    def __init__(
        self,
        *,
        must: Sequence[str] = (),
        must_not: Sequence[str] = (),
        counts: Mapping[str, int | Sequence[int]] | None = None,
        whole_words: bool = True,
        match_case: bool = False,
    ):
        for field, words in (("must", must), ("must_not", must_not)):
            if isinstance(words, str):
                raise ValueError(f"{field}: given {words!r}, allowed: a list of words or phrases")
        spans = [(word, 1, None) for word in must] + [(word, 0, 0) for word in must_not]
        spans += [(word, *_span(word, count)) for word, count in (counts or {}).items()]
        if not spans:
            raise ValueError("must, must_not, counts: none given, allowed: at least one word in one of them")
        if any(not word.strip() for word, _, _ in spans):
            raise ValueError("must, must_not, counts: given a blank word, allowed: words or phrases")
        around = (r"(?<!\w)", r"(?!\w)") if whole_words else ("", "")
        flags = 0 if match_case else re.IGNORECASE
        self.conditions = [(re.compile(re.escape(word).join(around), flags), low, high) for word, low, high in spans]

    def __call__(self, prompt: Any, response: str, ground_truth: Any, extra: dict[str, Any]) -> float:
        times = [len(pattern.findall(response)) for pattern, _, _ in self.conditions]
        held = [
            low <= n and (high is None or n <= high) for n, (_, low, high) in zip(times, self.conditions, strict=True)
        ]
        return sum(held) / len(held)


def bounds(**options: Any) -> tuple[float, float]:
    return 0.0, 1.0


def _span(word: str, count: int | Sequence[int]) -> tuple[int, int]:
    low_high = (count, count) if isinstance(count, int) else tuple(count)
    if len(low_high) != 2 or not all(isinstance(n, int) for n in low_high) or not 0 <= low_high[0] <= low_high[1]:
        raise ValueError(f"counts.{word}: given {count!r}, allowed: a number, or [min, max]")
    return low_high
