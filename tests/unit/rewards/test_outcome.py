"""A score, not applicable, or failed with a cause: never one for another."""

from __future__ import annotations

from array import array
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from mrpo.rewards.outcome import MAX_FAILURE, Outcome, RewardError

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("returned", "failure"),
    [
        (float("nan"), "not finite: nan"),
        (float("-inf"), "not finite: -inf"),
        (10**400, "not finite: int too large to convert to float"),
        ("1.0", "wrong type: str"),
        (b"1", "wrong type: bytes"),
        (bytearray(b"0.5"), "wrong type: bytearray"),
        (memoryview(b"0.5"), "wrong type: memoryview"),
        (array("b", b"0.5"), "wrong type: array"),
        (np.array("0.5"), "wrong type: ndarray"),
        (np.array(b"0.5"), "wrong type: ndarray"),
        (np.array(0.5, dtype=object), "wrong type: ndarray"),
        (np.timedelta64(1, "s"), "wrong type: timedelta64"),
        (np.complex128(1), "wrong type: complex128"),
        ({"score": bytearray(b"1")}, "wrong type: bytearray"),
        (float, "wrong type: type"),
        (Decimal("sNaN"), "wrong type: Decimal"),
        ([1.0], "wrong type: list"),
        (1j, "wrong type: complex"),
        (object(), "wrong type: object"),
        (np.zeros(2), "wrong type: ndarray"),
        ({"points": 1}, "wrong type: a dict without 'score', with ['points']"),
        ({"score": "1"}, "wrong type: str"),
    ],
)
def test_what_is_no_score_is_a_failure_with_its_cause(returned: Any, failure: str) -> None:
    outcome = Outcome.of(returned)
    assert outcome == Outcome(failure=failure)
    assert outcome.cause == failure.split(":")[0]


@pytest.mark.parametrize(
    ("returned", "score"),
    [
        *((True, 1.0), (3, 3.0), (None, None), ({"score": None}, None), ({"score": 2}, 2.0)),
        *((np.float32(0.5), 0.5), (np.bool_(True), 1.0), (np.array(0.5), 0.5), (np.int8(2), 2.0)),
        *((Decimal("0.5"), 0.5), (Fraction(1, 4), 0.25)),
    ],
)
def test_numbers_booleans_and_dicts_are_read(returned: Any, score: float | None) -> None:
    assert Outcome.of(returned) == Outcome(score)
    assert Outcome.of(returned).cause is None


def test_a_key_reads_one_entry_of_a_dict_and_nothing_else() -> None:
    assert Outcome.of({"score": 1, "format": 0.5}, key="format") == Outcome(0.5)
    assert Outcome.of(None, key="format") == Outcome()
    assert Outcome.of(1.0, key="format").failure == "wrong type: float, not a dict with 'format'"


def test_a_score_outside_its_range_fails_and_is_not_clipped() -> None:
    assert Outcome.of(1, range=(0.0, 1.0)) == Outcome(1.0)
    assert Outcome.of(7, range=(0.0, 1.0)) == Outcome(failure="out of range: 7 is not in [0, 1]")


def test_an_exception_is_reported_by_its_type_and_text() -> None:
    assert Outcome.raised(KeyError("x")).failure == "exception: KeyError: 'x'"
    assert Outcome.raised(MemoryError()).failure == "exception: MemoryError"
    assert Outcome.raised(RewardError("server", "500")).failure == "server: 500"


def test_an_exception_whose_text_raises_is_reported_all_the_same() -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise ValueError

    assert Outcome.raised(Broken()).failure == "exception: Broken: its text could not be made"


def test_a_failure_is_short_and_can_be_written_anywhere() -> None:
    failure = Outcome.failed("server", "\ud800" + "x" * 10_000).failure
    assert failure is not None
    assert len(failure.encode()) == MAX_FAILURE
