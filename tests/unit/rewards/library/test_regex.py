"""A regular expression, anywhere or from end to end."""

from __future__ import annotations

import pytest

from mrpo.rewards.library.regex import regex

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("pattern", "mode", "response", "expected"),
    [
        (r"\d+", "search", "about 42 of them", 1),
        (r"\d+", "search", "", 0),
        (r"\d+", "whole", "about 42", 0),
        (r"\d+", "whole", " 42\n", 1),
        (r"a.b", "search", "a\nb", 0),
        (r"(?s)a.b", "search", "a\nb", 1),
        (r"(?i)ÜBER", "search", "über", 1),
        (r"", "whole", "", 1),
    ],
)
def test_it_matches(pattern: str, mode: str, response: str, expected: float) -> None:
    assert regex(pattern=pattern, mode=mode)([], response, None, {}) == expected


@pytest.mark.parametrize(("pattern", "mode", "message"), [("(", "search", "no regular expression"), ("a", "w", "mode")])
def test_what_can_never_match_is_refused_at_once(pattern: str, mode: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        regex(pattern=pattern, mode=mode)
