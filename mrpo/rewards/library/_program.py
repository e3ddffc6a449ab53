"""Which code block of a response is its program: the one that a problem's cases can be run against.

A response may hold earlier drafts, the program, its output, an example of its use. So of the blocks labelled Python, or
of those without a label where none is, it is the last one that has what the cases need: the function that they call, or
for cases with an input the reading of it. Where no block has, it is the last one. What is said after the thought
(``</think>``) comes first.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from mrpo.rewards.cases import Case
from mrpo.rewards.library._text import blocks, fenced

LANGUAGES = ("python", "py")
READS = re.compile(r"\b(?:input|stdin|fileinput)\b|\b(?:open|read)\(0\b")
DEFINES = re.compile(r"^[ \t]*(?:async[ \t]+)?(?:(?:def|class)[ \t]+(\w+)|(\w+)[ \t]*=(?!=))", re.MULTILINE)
WORD = re.compile(r"\w+")


def program_of(response: str, cases: Sequence[Case]) -> str | None:
    """The program in ``response`` that ``cases`` are about; None if there is no closed block of Python.

    >>> draft = "```python\\nprint(input())\\n```\\nwhich prints\\n```\\n2\\n```"
    >>> program_of(draft, [Case("stdin", "2", "2")])
    'print(input())\\n'
    """
    said = response.rpartition("</think>")[2]
    found = fenced(blocks(said), LANGUAGES) or fenced(blocks(response), LANGUAGES)
    fitting = [code for code in found if _fits(code, cases)] or found
    return fitting[-1] if fitting else None


def _fits(code: str, cases: Sequence[Case]) -> bool:
    wanted: set[str] = set()
    for case in cases:
        if case.kind == "call":
            wanted.add(case.given[0])
        elif case.kind == "assert":
            wanted |= set(WORD.findall(case.given)) - _defined(case.given)
    reading = any(case.kind == "stdin" and case.given.strip() for case in cases)
    return bool(wanted & _defined(code)) or (reading and READS.search(code) is not None)


def _defined(code: str) -> set[str]:
    return {name for names in DEFINES.findall(code) for name in names if name}
