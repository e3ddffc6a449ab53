"""Reading a response or a ground truth: what several kinds of the library share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

FENCE = re.compile(r"^([ \t]*)(`{3,}|~{3,})([^\n]*)$", re.MULTILINE)


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


class Block(NamedTuple):
    """A closed Markdown code block: its language in lower case without a version ("": none given), and its content."""

    language: str
    content: str


def blocks(text: str) -> list[Block]:
    """The closed code blocks of ``text``, as CommonMark has them: fences of three or more backticks or tildes, any line
    ends, and words after the language. Other than there, a fence may be indented by any width, its content with it.

    A fence counts at the start of a line only, so backticks within the code don't end it.

    >>> blocks("~~~{.python title=a.py}\\nprint(1)\\n~~~")
    [Block(language='python', content='print(1)\\n')]
    """
    text = re.sub(r"\r\n?", "\n", text)
    found: list[Block] = []
    opening: re.Match[str] | None = None
    for fence in FENCE.finditer(text):
        marks, info = fence[2], fence[3].strip()
        if opening is None:
            opening = None if marks[0] == "`" and "`" in info else fence
        elif not info and marks.startswith(opening[2]):
            content = text[opening.end() + 1 : fence.start()]
            if opening[1]:
                content = re.sub(rf"^[ \t]{{1,{len(opening[1])}}}", "", content, flags=re.MULTILINE)
            found.append(Block(_language(opening[3]), content))
            opening = None
    return found


def fenced(found: Sequence[Block], languages: Sequence[str]) -> list[str]:
    """The contents of the blocks in one of the ``languages``; where there are none, of those without a language."""
    labelled = [block.content for block in found if block.language in languages]
    return labelled or [block.content for block in found if not block.language]


def _language(info: str) -> str:
    """
    >>> [_language(info) for info in ("Python3", 'py title="a.py"', "{.python .numbered}", "python:a.py")]
    ['python', 'py', 'python', 'python']
    """
    found = re.match(r"[{.\s]*([a-z_+#-]*)", info.lower())
    return found[1] if found else ""
