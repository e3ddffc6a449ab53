"""Each kind by hand, and its bounds."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrpo.rewards.library.length import bounds, length

pytestmark = pytest.mark.unit


def score(tokens: int, **options: Any) -> float:
    return length(**options)([], "", None, {"response_tokens": tokens})


@pytest.mark.parametrize(
    ("options", "tokens", "expected"),
    [
        ({"kind": "cap", "cap": 4000}, 4000, 1),
        ({"kind": "cap", "cap": 4000}, 4001, 0),
        ({"kind": "cap", "cap": 4000}, 0, 1),
        ({"kind": "target", "target": 100}, 100, 1),
        ({"kind": "target", "target": 100}, 75, 0.75),
        ({"kind": "target", "target": 100}, 130, 0.7),
        ({"kind": "target", "target": 100}, 500, 0),
        ({"kind": "min", "target": 512}, 128, 0.25),
        ({"kind": "min", "target": 512}, 1000, 1),
        ({"kind": "cosine", "cap": 100}, 0, 1),
        ({"kind": "cosine", "cap": 100}, 50, 0.5),
        ({"kind": "cosine", "cap": 100}, 25, 0.5 + math.sqrt(0.5) / 2),
        ({"kind": "cosine", "cap": 100}, 100, 0),
        ({"kind": "cosine", "cap": 100, "start": 2, "end": 1, "exceed": -10}, 0, 2),
        ({"kind": "cosine", "cap": 100, "start": 2, "end": 1, "exceed": -10}, 50, 1.5),
        ({"kind": "cosine", "cap": 100, "start": 2, "end": 1, "exceed": -10}, 100, -10),
    ],
)
def test_by_hand(options: dict[str, Any], tokens: int, expected: float) -> None:
    assert score(tokens, **options) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("response", "tag", "expected"),
    [
        ("one two\nthree", None, 0.75),
        ("", None, 0.0),
        ("<think> one  two </think> three four", "think", 0.5),
        ("one two three", "think", 0.0),
        ("<think>one two", "think", 0.0),
    ],
)
def test_words_of_the_response_or_of_a_tag(response: str, tag: str | None, expected: float) -> None:
    assert length(kind="min", target=4, unit="words", tag=tag)([], response, None, {}) == expected


def test_unknown_tokens_raise() -> None:
    with pytest.raises(ValueError, match="response_tokens"):
        length(kind="cap", cap=10)([], "a", None, {})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "cup", "cap": 5}, "kind: given 'cup', allowed: cap, target, min, cosine"),
        ({"kind": "cap"}, "cap: given None, allowed with kind cap: a number above 0"),
        ({"kind": "cap", "cap": 0}, "cap: given 0"),
        ({"kind": "cap", "cap": 5, "target": 5}, "target: given 5, kind cap goes by cap alone"),
        ({"kind": "cap", "cap": 5, "unit": "letters"}, "unit: given 'letters'"),
        ({"kind": "cap", "cap": 5, "tag": "think"}, "tag: given 'think' with unit tokens"),
        ({"kind": "cap", "cap": 5, "exceed": -1}, "allowed with kind cosine"),
    ],
)
def test_options_that_dont_fit_together_are_refused_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        length(**options)


finite = st.floats(-10, 10)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5000), finite, finite, finite)
def test_scores_stay_within_the_bounds(tokens: int, number: int, start: float, end: float, exceed: float) -> None:
    kinds: list[dict[str, Any]] = [
        {"kind": "cap", "cap": number},
        {"kind": "target", "target": number},
        {"kind": "min", "target": number},
        {"kind": "cosine", "cap": number, "start": start, "end": end, "exceed": exceed},
    ]
    for options in kinds:
        low, high = bounds(**options)
        assert low <= score(tokens, **options) <= high


@settings(deadline=None)
@given(st.integers(0, 99), st.integers(0, 99))
def test_the_cosine_falls_from_start_to_end(first: int, second: int) -> None:
    shorter, longer = sorted((first, second))
    assert score(shorter, kind="cosine", cap=100) >= score(longer, kind="cosine", cap=100)
