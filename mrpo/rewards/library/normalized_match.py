"""The response is the ground truth, apart from case, articles, punctuation and whitespace."""

from __future__ import annotations

import functools
import re
import string
import unicodedata
from collections.abc import Iterator
from typing import Any

from mrpo.rewards.library._text import accepted, inside

MAX_MARKS = 30
"""As in Unicode's stream-safe text format (UAX 15)."""

_PUNCTUATION = str.maketrans("", "", string.punctuation)


def bounds(**options: Any) -> tuple[float, float]:
    return 0.0, 1.0


def normalized_match(
    prompt: Any, response: str, ground_truth: Any, extra: dict[str, Any], *, tag: str | None = None
) -> float:
    """1 if response and ground truth, or one of its answers if it is a list, are the same text once normalised; else 0.

    Normalised as in SQuAD's evaluation (Rajpurkar et al. 2016, arXiv 1606.05250): lower case, no ASCII punctuation, no
    articles (a, an, the), single spaces. Before that Unicode's compatible forms become one (NFKC), which SQuAD's own
    script doesn't do.

    Args:
        tag: compare the text of the last ``<tag>…</tag>`` instead; 0 if there is none.

    Raises:
        ValueError: the ground truth is neither a text, a number nor a list of them, or nothing is left of an answer
            (the option "A" is an article), which any empty response would match.
    """
    answers = {answer: normalized(answer) for answer in accepted(ground_truth)}
    for answer, text in answers.items():
        if not text:
            raise ValueError(f"ground truth: nothing is left of {answer!r} once normalised; exact_match can compare it")
    given = inside(response, tag) if tag else response
    return float(given is not None and normalized(given) in answers.values())


def _without_long_runs(text: str) -> Iterator[str]:
    """``text`` with at most MAX_MARKS marks on a letter: normalising takes quadratic time in their number."""
    marks = 0
    for character in text:
        marks = marks + 1 if _is_mark(character) else 0
        if marks <= MAX_MARKS:
            yield character


@functools.cache
def _is_mark(character: str) -> bool:
    return unicodedata.combining(unicodedata.normalize("NFKD", character)[0]) != 0


def normalized(text: str) -> str:
    text = "".join(_without_long_runs(text))
    # Once more at the end: without the punctuation between them, a letter and its accent become one.
    for _ in range(2):
        text = unicodedata.normalize("NFKC", text).casefold().translate(_PUNCTUATION)
    text = unicodedata.normalize("NFKC", text)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())
