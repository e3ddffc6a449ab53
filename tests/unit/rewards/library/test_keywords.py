"""Conditions on words, each counted for itself."""

from __future__ import annotations

from typing import Any

import pytest

from mrpo.rewards.library.keywords import keywords

pytestmark = pytest.mark.unit

TEXT = "The art of the start: über-Art, C++ and art."


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"must": ["art"]}, 1),
        ({"must": ["the art of"]}, 1),
        ({"must": ["tar"]}, 0),
        ({"must": ["tar"], "whole_words": False}, 1),
        ({"must": ["THE"], "match_case": True}, 0),
        ({"must": ["über", "C++", "science"]}, 2 / 3),
        ({"must_not": ["science", "of"]}, 0.5),
        ({"counts": {"art": 3}}, 1),
        ({"counts": {"art": 2}, "match_case": True}, 1),
        ({"counts": {"art": [0, 2]}}, 0),
        ({"counts": {"science": 0, "the": [1, 5]}}, 1),
        ({"must": ["art"], "must_not": ["art"], "counts": {"of": 1, "and": 2}}, 0.5),
    ],
)
def test_share_of_conditions_that_hold(options: dict[str, Any], expected: float) -> None:
    assert keywords(**options)([], TEXT, None, {}) == pytest.approx(expected)


def test_an_empty_response_says_nothing() -> None:
    assert keywords(must=["a"], must_not=["b"])([], "", None, {}) == 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "none given"),
        ({"must": "art"}, "must: given 'art', allowed: a list"),
        ({"must_not": [" "]}, "blank"),
        ({"counts": {"a": [3, 1]}}, "counts.a"),
        ({"counts": {"a": [1]}}, "counts.a"),
        ({"counts": {"a": -1}}, "counts.a"),
        ({"counts": {"a": "2"}}, "counts.a"),
    ],
)
def test_conditions_that_are_none_are_refused_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        keywords(**options)
