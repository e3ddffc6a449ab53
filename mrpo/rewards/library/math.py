"""The response's final answer equals the ground truth, as mathematics."""

from __future__ import annotations

import logging
import re
from math import log10
from typing import Any, NamedTuple

from mrpo.rewards.library._limit import OutOfTimeError, limited
from mrpo.rewards.library._text import accepted

MOST_DIGITS = 10_000
"""A power or factorial of more digits than that is not computed, hence equals nothing: 9^{9^9} would take hours."""

MAX_CHARACTERS, MAX_DEPTH = 1000, 10
"""Characters, and brackets within brackets, of what is read. Parsing time grows exponentially with the depth."""

_DOUBLE_SUPERSCRIPT = re.compile(r"(?:\^\w){4}")
_SCIENTIFIC = re.compile(r"([+-]?[\d.,]+)[eE]([+-]?\d+)")
_PERCENT = re.compile(r"\s*\\?%\s*$")


class Answer(NamedTuple):
    """``values``: sympy's expressions; ``percent``: a percent sign followed, which isn't in the values."""

    values: list[Any]
    percent: bool


class math:
    r"""1 if the response's answer equals the ground truth, or an answer of it if it is a list, by math-verify; else 0.

    Equal are forms of one value: 1,000 and 1000, 1/2, \frac12 and 0.5, sets and intervals, equations solved for the
    value (x = 5 and 5), floats to 6 decimals. 50% equals 50% and 50 and 0.5, since data sets have it all three ways.
    An answer that takes too long to compare (``_limit``) equals nothing.

    Args:
        extract: where the answer is. ``boxed``: in the last ``\boxed{…}``, or there is none; ``any``: there if it
            exists, else wherever math-verify finds one in the last MAX_CHARACTERS, say after "the answer is".

    Raises:
        ValueError: ``extract`` is neither; in scoring, the ground truth isn't mathematics.
    """

    def __init__(self, *, extract: str = "boxed"):
        if extract not in ("boxed", "any"):
            raise ValueError(f"extract: given {extract!r}, allowed: boxed, any")
        import math_verify  # noqa: F401  (takes a second, and a missing one is to be reported at once)

        self.anywhere = extract == "any"
        logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its own time limit is off

    def __call__(self, prompt: Any, response: str, ground_truth: Any, extra: dict[str, Any]) -> float:
        wanted = {text: _whole(text) for text in accepted(ground_truth)}
        for text, answer in wanted.items():
            if not answer.values:
                raise ValueError(f"ground truth: given {text!r}, which can't be read as mathematics")
        boxed = last_boxed(response)
        if boxed is None and not self.anywhere:
            return 0.0
        try:
            with limited():
                given = _anywhere(response) if boxed is None else _whole(boxed)
                return float(any(_equal(answer, given) for answer in wanted.values()))
        except OutOfTimeError:
            return 0.0


def bounds(**options: Any) -> tuple[float, float]:
    return 0.0, 1.0


def last_boxed(text: str) -> str | None:
    r"""What the last ``\boxed{…}`` with balanced braces holds; None if there is none."""
    open_braces: list[int] = []
    found = (-1, -1)
    for mark in re.finditer(r"\\(?:boxed|fbox)\s*\{|\\.|[{}]", text, re.DOTALL):
        if mark[0] == "}":
            start = open_braces.pop() if open_braces else -1
            found = max(found, (start, mark.start()))
        elif mark[0].endswith("{") and mark[0] != r"\{":
            open_braces.append(mark.end() if len(mark[0]) > 1 else -1)
    return text[found[0] : found[1]] if found[0] >= 0 else None


def _whole(text: str) -> Answer:
    """``text`` read as one expression; math-verify by itself would take the 2 out of an unmarked "2x + 1"."""
    text = text.strip().strip("$").strip()
    if len(text) > MAX_CHARACTERS:
        return Answer([], False)
    number, percents = _PERCENT.subn("", text)
    if scientific := _SCIENTIFIC.fullmatch(number):
        number = rf"{scientific[1]} \times 10^{{{scientific[2]}}}"
    return Answer(_parse(rf"\boxed{{{number}}}"), bool(percents))


def _anywhere(response: str) -> Answer:
    from sympy import Mul, UnevaluatedExpr

    values = _parse(response[-MAX_CHARACTERS:])
    percents = [isinstance(v, Mul) and any(isinstance(part, UnevaluatedExpr) for part in v.args) for v in values]
    if any(percents):  # math-verify reads "50%" as 50 * (1/100)
        return Answer([(100 * value).doit() for value in values], True)
    return Answer(values, False)


def _parse(text: str) -> list[Any]:
    from math_verify import parse

    if len(text) > MAX_CHARACTERS + len(r"\boxed{}") or _depth(text) > MAX_DEPTH or _DOUBLE_SUPERSCRIPT.search(text):
        return []
    # Time is limited by whoever runs this: math-verify's own limit is a signal, which only a main thread gets.
    return [value for value in parse(text, fallback_mode="no_fallback", parsing_timeout=0) if not _is_huge(value)]


def _depth(text: str) -> int:
    depth = deepest = 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        deepest = max(deepest, depth)
    return deepest


def _equal(wanted: Answer, given: Answer) -> bool:
    from math_verify import verify

    if verify(wanted.values, given.values, timeout_seconds=None):
        return True
    if wanted.percent == given.percent:
        return False
    hundredth = [value / 100 for value in (wanted if wanted.percent else given).values if value.is_number]
    return bool(verify(hundredth, (given if wanted.percent else wanted).values, timeout_seconds=None))


def _is_huge(value: Any) -> bool:
    """Whether computing ``value`` would make a number of more than MOST_DIGITS digits. Innermost powers come first."""
    from sympy import Basic, Pow, factorial, postorder_traversal

    if not isinstance(value, Basic):
        return False
    for part in postorder_traversal(value):
        try:
            if isinstance(part, factorial) and part.args[0].is_number and abs(float(part.args[0])) > 3000:
                return True
            if isinstance(part, Pow) and part.is_number and part.base != 0:
                digits = abs(float(part.exp) * log10(abs(float(part.base))))
                if digits > MOST_DIGITS:
                    return True
        except (TypeError, ValueError):  # complex or symbolic parts
            continue
        except OverflowError:
            return True
    return False
