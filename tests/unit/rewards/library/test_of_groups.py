"""The library's rewards of a group: by hand, and what holds of any group."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrpo.rewards.library.distinct import distinct
from mrpo.rewards.library.rank import rank

pytestmark = pytest.mark.unit
TEXTS = st.lists(st.text("ab c", max_size=8), min_size=2, max_size=6)


def ranks(*scores: float | None) -> list[float | None]:
    return rank([], [""] * len(scores), None, [{"rewards": {"x": score}} for score in scores], of="x")


@pytest.mark.parametrize(
    ("responses", "options", "scores"),
    [
        (["a b c", "a b c"], {}, [0, 0]),
        (["a b c", "x y z"], {}, [1, 1]),
        (["a b c", "a b d", "a b c"], {}, [(0 + 0.5) / 2, (0 + 1) / 2, (0 + 0.5) / 2]),
        (["A, b!", "a b"], {}, [0, 0]),
        (["a b a b", "a b"], {}, [0.5, 0]),  # "b a" is new, and "a b" counts once
        (["one", "two"], {}, [1, 1]),
        (["", "a b"], {}, [0, 1]),
        (["", ""], {}, [0, 0]),
        (["abc", "abd"], {"unit": "characters"}, [0.5, 0.5]),
        (["a b", "a c"], {"n": 1}, [0.5, 0.5]),
        (["<a>x y</a> z", "<a>x y</a> w"], {"tag": "a"}, [0, 0]),
        (["no tag", "<a>x y</a>"], {"tag": "a"}, [0, 1]),
        (["alone"], {}, [None]),
    ],
)
def test_distinct_by_hand(responses: list[str], options: dict[str, Any], scores: list[float | None]) -> None:
    assert distinct([], responses, None, [{}] * len(responses), **options) == pytest.approx(scores)


@settings(max_examples=50, deadline=None)
@given(responses=TEXTS, data=st.data())
def test_distinct_knows_no_order_and_a_copy_makes_nothing_more_distinct(responses: list[str], data: Any) -> None:
    scores = distinct([], responses, None, [])
    assert all(score is not None and 0 <= score <= 1 for score in scores)
    order = data.draw(st.permutations(range(len(responses))))
    assert distinct([], [responses[n] for n in order], None, []) == [scores[n] for n in order]
    assert distinct([], [responses[0]] * len(responses), None, []) == [0.0] * len(responses)


@pytest.mark.parametrize("options", [{"n": 0}, {"unit": "tokens"}])
def test_distinct_refuses_what_it_does_not_know(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="allowed: 1 or more, words or characters"):
        distinct([], ["a", "b"], None, [], **options)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ((3.0, 100.0, 5.0), [0, 1, 0.5]),
        ((1.0, 1.0, 0.0), [0.75, 0.75, 0]),
        ((2.0, 2.0), [0.5, 0.5]),
        ((None, 1.0, 0.0), [None, 1, 0]),
        ((1.0, None), [None, None]),
        ((7.0,), [None]),
    ],
)
def test_rank_by_hand(scores: tuple[float | None, ...], expected: list[float | None]) -> None:
    assert ranks(*scores) == expected


@settings(max_examples=50, deadline=None)
@given(scores=st.lists(st.integers(-9, 9).map(float), min_size=2, max_size=8))
def test_rank_depends_on_the_order_alone_and_its_mean_is_a_half(scores: list[float]) -> None:
    found = ranks(*scores)
    assert found == ranks(*(score**3 for score in scores))
    assert sum(score for score in found if score is not None) == pytest.approx(len(scores) / 2)


def test_rank_says_which_reward_is_not_there() -> None:
    with pytest.raises(KeyError, match="y"):
        rank([], [""] * 2, None, [{"rewards": {"x": 1.0}}] * 2, of="y")
