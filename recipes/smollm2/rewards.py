"""The rewards of both tasks. Each reads the response alone.

Capitals: ``correct``, ``tagged`` and ``short_answer``. Sentences: ``keyword``, ``exclaim``, ``positive`` (graded, the
others are 0 or 1) and ``short_sentence``.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

ANSWER_LIMIT = 16
"""Tokens that a short answer may have, its end included: one sentence with a tagged name fits, chatter doesn't."""
SENTENCE_LIMIT = 16
"""Tokens that a short sentence may have, its end included."""

_ANSWER = re.compile(r"<answer>([^<>]+)</answer>")


def correct(prompt: Any, response: str, ground_truth: str, extra: dict[str, Any]) -> float:
    """The capital is named: between the tags if there are any, else anywhere."""
    tagged_answers = _ANSWER.findall(response)
    return float(_names(ground_truth, tagged_answers[-1] if tagged_answers else response))


def tagged(prompt: Any, response: str, ground_truth: str, extra: dict[str, Any]) -> float:
    """There is one answer in tags, and the response ends with it."""
    return float(len(_ANSWER.findall(response)) == 1 and response.rstrip().endswith("</answer>"))


def short_answer(prompt: Any, response: str, ground_truth: str, extra: dict[str, Any]) -> float:
    """At most ANSWER_LIMIT tokens."""
    return float(extra["response_tokens"] <= ANSWER_LIMIT)


def keyword(prompt: Any, response: str, ground_truth: str, extra: dict[str, Any]) -> float:
    """The word stands in the response, whole and in any case."""
    return float(_names(ground_truth, response))


def exclaim(prompt: Any, response: str, ground_truth: str, extra: dict[str, Any]) -> float:
    """The response ends with "!"."""
    return float(response.rstrip().endswith("!"))


def positive(prompt: Any, response: str, ground_truth: str, extra: dict[str, Any]) -> float:
    """VADER's compound sentiment; 0 if it is negative. In [0, 1]. Hutto and Gilbert, ICWSM 2014."""
    return max(0.0, float(_vader().polarity_scores(response)["compound"]))


def short_sentence(prompt: Any, response: str, ground_truth: str, extra: dict[str, Any]) -> float:
    """At most SENTENCE_LIMIT tokens."""
    return float(extra["response_tokens"] <= SENTENCE_LIMIT)


def _names(name: str, text: str) -> bool:
    return re.search(rf"\b{re.escape(name)}\b", text, re.IGNORECASE) is not None


@cache
def _vader() -> SentimentIntensityAnalyzer:
    return SentimentIntensityAnalyzer()
