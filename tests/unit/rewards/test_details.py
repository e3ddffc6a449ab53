"""What a reward function returns besides its score: whatever it is, it is JSON and no longer than it may be."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrpo.rewards.details import MAX_ENTRIES, MAX_ENTRY, MAX_NAME, details_of
from mrpo.rewards.outcome import Outcome

pytestmark = pytest.mark.unit


class Rude:
    def __str__(self) -> str:
        raise RuntimeError


LOOP: list[Any] = []
LOOP.append(LOOP)


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("5", "5"),
        (3, 3),
        (True, True),
        (None, None),
        (["a", {"b": (1, 2)}], ["a", {"b": [1, 2]}]),
        (np.float32(0.5), 0.5),
        (np.arange(3), [0, 1, 2]),
        (float("nan"), "nan"),
        ([float("inf")], "[inf]"),
        ({1, 2}, "{1, 2}"),
        ({(1, 2): 3}, "{(1, 2): 3}"),
        (b"x", "b'x'"),
        ("half \ud800 a character", "half ? a character"),
        (Rude(), "a Rude"),
        (LOOP, "[[...]]"),
        ("x" * 5000, "x" * MAX_ENTRY + "…"),
        ([10**5000], "a list"),
    ],
)
def test_an_entry_is_kept_as_json(value: Any, kept: Any) -> None:
    assert json.loads(details_of({"score": 1, "entry": value}, {"score"})) == {"entry": kept}


@given(st.dictionaries(st.text() | st.integers(), st.recursive(st.text() | st.floats(), st.lists, max_leaves=50)))
def test_however_much_there_is_it_has_a_limit(returned: dict[Any, Any]) -> None:
    text = details_of(returned, {"score"})
    assert len(text) <= MAX_ENTRIES * (6 * (MAX_ENTRY + MAX_NAME) + 10)
    assert not text or isinstance(json.loads(text), dict)


def test_only_so_many_entries_are_kept() -> None:
    kept = json.loads(details_of(dict.fromkeys(range(1000), "x" * 10000), set()))
    assert list(kept) == [str(n) for n in range(MAX_ENTRIES)]


def test_the_rewards_of_one_function_keep_the_other_entries_once() -> None:
    returned = {"correct": 1.0, "short": 7, "extracted": "5"}
    correct, short = Outcome.several(returned, [("correct", None), ("short", (0, 1))])
    assert (correct, json.loads(correct.details)) == (Outcome(1.0), {"extracted": "5"})
    assert (short.cause, short.details) == ("out of range", "")


def test_a_tuple_is_kept_by_places() -> None:
    (one,) = Outcome.several((0.5, "why"), [("0", None)])
    assert (one.score, json.loads(one.details)) == (0.5, {"1": "why"})


def test_what_only_holds_scores_has_no_details() -> None:
    for returned in (1.0, None, {"score": 1.0}, "text"):
        assert Outcome.several(returned, [("score", None)])[0].details == ""
