"""The quickstart's three rewards. Each reads the response alone and gives 0 or 1.

They partly conflict: counting the letters out helps the answer, and tags are the format, but both cost room.
"""

from __future__ import annotations

import re
from typing import Any

LIMIT = 14
"""Tokens that a short response may have: tags and counting fit, chatter beside them doesn't."""

_TAGGED = re.compile(r"<answer>([a-z])</answer>")


def correct(prompt: Any, response: str, ground_truth: str, extra: dict[str, Any]) -> float:
    """The last letter that stands alone is the right one."""
    letters = re.findall(r"\b[a-z]\b", response)
    return float(bool(letters) and letters[-1] == ground_truth)


def tagged(prompt: Any, response: str, ground_truth: str, extra: dict[str, Any]) -> float:
    """The response ends with a letter in answer tags, and there is one such pair of tags."""
    found = _TAGGED.findall(response)
    return float(len(found) == 1 and response.rstrip().endswith("</answer>"))


def short(prompt: Any, response: str, ground_truth: str, extra: dict[str, Any]) -> float:
    """At most LIMIT tokens."""
    return float(extra["response_tokens"] <= LIMIT)
