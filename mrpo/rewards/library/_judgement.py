"""Reading a judge's answer: a number that is surely the one it meant, or a failure that names what is in its place."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from mrpo.rewards.outcome import RewardError

NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?")
PART_BEFORE = re.compile(r"(?:[\w.,/+-]|\d:)$")
PART_AFTER = re.compile(
    r"[.,:']?[\w+-]|[ \u00a0\u202f]\d|\s*(?:[-–—~]|to|or)\s*\d|\s*[(\[]?\s*(?:/|out of)(?!\s*\d)", re.IGNORECASE
)
"""What goes on with a number, so that it isn't the whole of it: ``8,5``, ``8-9``, ``8 to 9``, ``8th``, ``8/ten``."""
OUT_OF = re.compile(r"[\s*_`)\]]*(?:[(\[]?\s*(?:/|out of|of)\s*(\d+(?:\.\d+)?)|(%))", re.IGNORECASE)
SHOWN = 200
"""Characters of an answer that a failure shows, the last ones."""


def from_json(said: str, low: float, high: float) -> tuple[float, str]:
    """The score and the reason in an answer that is a JSON object and nothing else, perhaps in a code fence.

    >>> from_json('{"reason": "correct", "score": 8}', 0, 10)
    (8.0, 'correct')

    Raises:
        RewardError: ``judge``: it is something else, or its score no number from ``low`` to ``high``.
    """
    lines = said.strip().splitlines()
    if len(lines) > 2 and lines[0].rstrip() in ("```json", "```JSON", "```") and lines[-1].rstrip() == "```":
        lines = lines[1:-1]
    try:
        given = json.loads("\n".join(lines), object_pairs_hook=_once, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        _fail(f"the answer isn't JSON ({error})", said)
    score = given.get("score") if isinstance(given, dict) else None
    if isinstance(score, bool) or not isinstance(score, int | float):
        _fail("no JSON object with a number as score", said)
    return _on_scale(score, low, high, said), str(given.get("reason", ""))


def from_prose(said: str, pattern: re.Pattern[str], low: float, high: float) -> float:
    """The number in the first group of ``pattern``, which matches exactly once. ``8/10`` and ``8 out of 10`` are 8
    where ``high`` is 10.

    >>> from_prose("Score: 8/10 (see rule 3)", re.compile(r"Score: (\\d+)"), 0, 10)
    8.0

    Raises:
        RewardError: ``judge``: there is none, several, or the group holds less or more than a number on the scale.
    """
    matches = list(pattern.finditer(said))
    if len(matches) != 1:
        _fail(f"the pattern matches {len(matches)} times, allowed: once", said)
    found, end = matches[0][1], matches[0].end(1)
    before, after = said[: max(matches[0].start(1), 0)], said[end:]
    if found is None or not NUMBER.fullmatch(found) or PART_BEFORE.search(before) or PART_AFTER.match(after):
        _fail(f"{found!r} isn't a whole number or decimal", said)
    if of := OUT_OF.match(after):
        denominator = 100.0 if of[2] else float(of[1])
        if denominator != high:
            _fail(f"{found}{of[0]} is on another scale than [{low:g}, {high:g}]", said)
    return _on_scale(float(found), low, high, said)


def _on_scale(number: float, low: float, high: float, said: str) -> float:
    if not low <= number <= high:
        _fail(f"{number!s:.20} is not on the scale [{low:g}, {high:g}]", said)
    return float(number)


def _fail(what: str, said: str) -> NoReturn:
    raise RewardError("judge", f"{what}: {said[-SHOWN:]!r}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key twice")
    return dict(pairs)


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")
