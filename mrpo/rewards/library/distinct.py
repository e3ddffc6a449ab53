"""How much of a response the others to the same prompt don't say. Needs ``scope: group``."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

from mrpo.rewards.library._text import inside

WORD = re.compile(r"\w+")


def bounds(**options: Any) -> tuple[float, float]:
    return 0.0, 1.0


def distinct(
    prompt: Any,
    responses: Sequence[str],
    ground_truth: Any,
    extras: Sequence[dict[str, Any]],
    *,
    n: int = 2,
    unit: Literal["words", "characters"] = "words",
    tag: str | None = None,
) -> list[float | None]:
    """Mean over a response's different n-grams of the share of the other responses that lack it: 0 for one that others
    repeat, 1 for one that shares nothing with any. The n-grams are those of Distinct-n (arXiv 1510.03055), compared
    between responses instead of counted in one. A response alone has nothing to be compared with: not applicable.

    It rewards noise, too: let it count where a response is right (``requires``).

    Args:
        n: words or characters of an n-gram. A shorter response is one n-gram.
        unit: words, without case and punctuation, or characters as they are.
        tag: compare the text of the last ``<tag>…</tag>`` alone; 0 if there is none.

    Raises:
        ValueError: ``n`` is below 1, or there is no such unit.
    """
    if n < 1 or unit not in ("words", "characters"):
        raise ValueError(f"n, unit: given {n}, {unit!r}, allowed: 1 or more, words or characters")
    if len(responses) < 2:
        return [None] * len(responses)
    texts = [inside(response, tag) or "" if tag else response for response in responses]
    grams = [_grams(WORD.findall(text.casefold()) if unit == "words" else text, n) for text in texts]
    frequency = Counter(gram for of_one in grams for gram in of_one)
    others = len(responses) - 1
    return [
        sum(1 - (frequency[gram] - 1) / others for gram in of_one) / len(of_one) if of_one else 0.0 for of_one in grams
    ]


def _grams(text: Sequence[str], n: int) -> dict[tuple[str, ...], None]:
    """The different n-grams, in their order, so that sums don't depend on hashes."""
    found = [tuple(text[first : first + n]) for first in range(max(1, len(text) - n + 1))]
    return dict.fromkeys(gram for gram in found if gram)
