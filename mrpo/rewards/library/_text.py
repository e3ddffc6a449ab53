"""Reading a response or a ground truth: what several kinds of the library share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any


def inside(response: str, tag: str) -> str | None:
    """The text of the last complete ``<tag>…</tag>``; None if there is none."""
    end = response.rfind(f"</{tag}>")
    start = response.rfind(f"<{tag}>", 0, max(end, 0))
    return response[start + len(tag) + 2 : end] if start >= 0 else None


def in_order(text: str, tags: Sequence[str], nothing_else: bool) -> bool:
    """Whether ``text`` holds each of ``<tag>…</tag>`` exactly once, one after the other.

    ``nothing_else``: and only whitespace before, between and after them.
    """
    place = 0
    for tag in tags:
        opening, closing = f"<{tag}>", f"</{tag}>"
        if text.count(opening) != 1 or text.count(closing) != 1:
            return False
        start, end = text.find(opening, place), text.find(closing, place)
        if not place <= start < end or (nothing_else and text[place:start].strip()):
            return False
        place = end + len(closing)
    return not nothing_else or not text[place:].strip()


def accepted(ground_truth: Any) -> list[str]:
    """The answers that ``ground_truth`` accepts: one text or number, or a sequence of them.

    Raises:
        ValueError: there is none, or one is neither text nor number.
    """
    if hasattr(ground_truth, "tolist"):  # an array or a number of numpy's, as parquet files give them
        ground_truth = ground_truth.tolist()
    answers = list(ground_truth) if isinstance(ground_truth, list | tuple) else [ground_truth]
    for answer in answers:
        if not isinstance(answer, str | int | float):
            raise ValueError(f"ground truth: given {ground_truth!r}, allowed: a text, a number, or a list of them")
    if not answers:
        raise ValueError("ground truth: given an empty list, allowed: at least one accepted answer")
    return [str(answer) for answer in answers]


def fenced(response: str, languages: Sequence[str]) -> str | None:
    """The last closed Markdown code block whose language is in ``languages`` ("": none given); None if there is none.

    A fence counts at the start of a line only, so backticks within the code don't end it.
    """
    found, language, start = None, None, 0
    for fence in re.finditer(r"^[ \t]*```([^\n`]*)$", response, re.MULTILINE):
        if language is None:
            language, start = fence[1].strip().lower(), fence.end() + 1
        elif not fence[1].strip(" \t"):
            found = response[start : fence.start()] if language in languages else found
            language = None
    return found
