"""VADER's compound score on [0, 1]."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrpo.rewards.library.sentiment import sentiment

pytestmark = pytest.mark.unit


POSITIVE, NEGATIVE = sentiment(), sentiment(want="negative")


def score(text: str, want: sentiment = POSITIVE) -> float:
    return want([], text, None, {})


def test_good_is_above_neutral_and_bad_below() -> None:
    assert score("What a great and lovely day!") > 0.8
    assert score("A horrible, sad failure.") < 0.2
    assert score("Not great.") < 0.5


@pytest.mark.parametrize("text", ["", "the table", "桌子"])
def test_nothing_of_the_lexicon_is_neutral(text: str) -> None:
    assert score(text) == score(text, NEGATIVE) == 0.5


@settings(deadline=None)
@given(st.text(max_size=40))
def test_negative_is_the_mirror_of_positive_and_both_stay_in_bounds(text: str) -> None:
    assert score(text) + score(text, NEGATIVE) == pytest.approx(1)
    assert 0 <= score(text) <= 1


def test_any_other_wish_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="want: given 'neutral', allowed: positive, negative"):
        sentiment(want="neutral")
