"""How long the response is, against a limit or a target."""

from __future__ import annotations

import math
from typing import Any

from mrpo.rewards.library._text import inside

NEEDS = {"cap": "cap", "target": "target", "min": "target", "cosine": "cap"}
"""The number that each kind goes by."""


class length:
    """A score of the response's length n.

    | kind | score | source |
    |---|---|---|
    | ``cap`` | 1 if n <= cap, else 0 | GDPO's length reward (arXiv 2601.05242) |
    | ``target`` | 1 - abs(n - target)/target, at least 0 | L1 (arXiv 2503.04697), relative to the target |
    | ``min`` | n/target, at most 1 | ToolRL's length reward (arXiv 2504.13958): longer is better, up to 512 words |
    | ``cosine`` | end + (start - end)(1 + cos(π n/cap))/2 if n < cap, else exceed | Yeo et al. (arXiv 2502.03373) |

    GDPO's conditioned length, which only a right response earns, is ``requires: {correct: 1}`` on this reward. Of Yeo
    et al.'s two branches this is one; theirs for right answers has ``start: 2, end: 1, exceed: -10``.

    Args:
        unit: ``tokens``, as the rollout has them, or ``words`` between whitespace.
        tag: count what is in the last ``<tag>…</tag>`` only; 0 words if there is no such tag.
        start: the cosine's value at length 0.
        end: its value towards ``cap``.
        exceed: the score from ``cap`` on.

    Raises:
        ValueError: the options don't fit together; in scoring, the tokens aren't known (``extra["response_tokens"]``).
    """

    def __init__(
        self,
        *,
        kind: str,
        target: int | None = None,
        cap: int | None = None,
        unit: str = "tokens",
        tag: str | None = None,
        start: float = 1.0,
        end: float = 0.0,
        exceed: float = 0.0,
    ):
        if kind not in NEEDS:
            raise ValueError(f"kind: given {kind!r}, allowed: {', '.join(NEEDS)}")
        for field, value in (("target", target), ("cap", cap)):
            if field == NEEDS[kind] and (value is None or value <= 0):
                raise ValueError(f"{field}: given {value!r}, allowed with kind {kind}: a number above 0")
            if field != NEEDS[kind] and value is not None:
                raise ValueError(f"{field}: given {value!r}, kind {kind} goes by {NEEDS[kind]} alone")
        if unit not in ("tokens", "words"):
            raise ValueError(f"unit: given {unit!r}, allowed: tokens, words")
        if tag and unit == "tokens":
            raise ValueError(f"tag: given {tag!r} with unit tokens, known of whole responses only; allowed: unit words")
        if kind != "cosine" and (start, end, exceed) != (1.0, 0.0, 0.0):
            raise ValueError(f"start, end, exceed: given with kind {kind}, allowed with kind cosine")
        self.kind, self.number, self.unit, self.tag = kind, target or cap or 0, unit, tag
        self.start, self.end, self.exceed = start, end, exceed

    def __call__(self, prompt: Any, response: str, ground_truth: Any, extra: dict[str, Any]) -> float:
        n, number = self._count(response, extra), self.number
        if self.kind == "cap":
            return float(n <= number)
        if self.kind == "target":
            return max(0.0, 1 - abs(n - number) / number)
        if self.kind == "min":
            return min(n / number, 1.0)
        if n >= number:
            return self.exceed
        share = (1 + math.cos(math.pi * n / number)) / 2
        low, high = sorted((self.start, self.end))
        return min(max(share * self.start + (1 - share) * self.end, low), high)  # rounding may lead out of them

    def _count(self, response: str, extra: dict[str, Any]) -> int:
        if self.unit == "words":
            return len(((inside(response, self.tag) or "") if self.tag else response).split())
        if extra.get("response_tokens") is None:
            raise ValueError("extra['response_tokens']: not given, which unit tokens goes by; allowed: unit words")
        return int(extra["response_tokens"])


def bounds(*, start: float = 1.0, end: float = 0.0, exceed: float = 0.0, **options: Any) -> tuple[float, float]:
    return min(start, end, exceed), max(start, end, exceed)
