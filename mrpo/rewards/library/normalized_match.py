"""The response is the ground truth, apart from case, articles, punctuation and whitespace."""

from __future__ import annotations

import re
import string
import unicodedata
from typing import Any

from mrpo.rewards.library._text import accepted, inside

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


def normalized(text: str) -> str:
    # Once more at the end: without the punctuation between them, a letter and its accent become one.
    for _ in range(2):
        text = unicodedata.normalize("NFKC", text).casefold().translate(_PUNCTUATION)
    text = unicodedata.normalize("NFKC", text)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())
