"""SQuAD's normalisation: what it forgives and what it doesn't."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrpo.rewards.library.normalized_match import normalized, normalized_match

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("response", "truth", "expected"),
    [
        ("The Eiffel Tower.", "eiffel tower", 1),
        ("an  apple,\na pear", "apple pear", 1),
        ("theatre", "atre", 0),
        ("U.S.A.", "usa", 1),
        ("Ｃａｆé", "cafe\u0301", 1),
        ("Beyoncé", "Beyonce", 0),
        ("", "Paris", 0),
        ("the", "Paris", 0),
        ("Beyoncé", ["Jay-Z", "beyoncé!"], 1),
    ],
)
def test_it_compares(response: str, truth: Any, expected: float) -> None:
    assert normalized_match([], response, truth, {}) == expected


def test_it_can_look_into_a_tag() -> None:
    assert normalized_match([], "so <answer>The cat!</answer>", "cat", {}, tag="answer") == 1
    assert normalized_match([], "the cat", "cat", {}, tag="answer") == 0


def test_an_answer_of_which_nothing_is_left_raises_instead_of_matching_everything() -> None:
    with pytest.raises(ValueError, match="nothing is left of 'A'"):
        normalized_match([], "...", ["cat", "A"], {})


@settings(deadline=None)
@given(st.text())
def test_normalising_once_more_changes_nothing_but_articles_that_punctuation_hid(text: str) -> None:
    once = normalized(text)
    assert normalized(once) == once
