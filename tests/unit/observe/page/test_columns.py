"""Columns come back as they were, to the last bit."""

from __future__ import annotations

import json
import struct
from array import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrpo.observe.page.columns import TYPES, json_for_html, number, numbers, pack, unpack, whole

pytestmark = pytest.mark.unit


@given(st.lists(st.floats(width=64)))
def test_floats_come_back_to_the_last_bit(values: list[float]) -> None:
    column = pack(array("d", values))
    assert json.loads(json.dumps(column)) == column
    assert unpack(column).tobytes() == array("d", values).tobytes()  # NaN and -0.0 too


@pytest.mark.parametrize(("code", "low", "high"), [("i", -(2**31), 2**31 - 1), ("I", 0, 2**32 - 1), ("B", 0, 255)])
@given(data=st.data())
def test_integers_come_back(code: str, low: int, high: int, data: st.DataObject) -> None:
    values = array(code, [low, high, *data.draw(st.lists(st.integers(low, high)))])
    assert unpack(pack(values)) == values
    assert struct.calcsize(code) == {"Int32Array": 4, "Uint32Array": 4, "Uint8Array": 1}[TYPES[code]]


@given(st.one_of(st.none(), st.text(), st.booleans(), st.floats(), st.integers(), st.lists(st.integers())))
def test_what_is_no_number_is_nan_and_never_zero(value: Any) -> None:
    found = number(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
        assert found != found
    else:
        assert found == value or abs(value) > 2**53
    assert len(numbers([value])) == 1


@pytest.mark.parametrize(
    ("value", "kept"), [(7, 7), (-1, 0), (2**31, 0), (True, 0), ("7", 0), (None, 0), (7.0, 0), (10**400, 0)]
)
def test_only_integers_that_fit_are_kept(value: Any, kept: int) -> None:
    assert whole(value) == kept
    assert whole(value, missing=-1) == (kept or -1)


@given(st.dictionaries(st.text(), st.lists(st.text(), max_size=3), max_size=3))
def test_json_in_a_page_ends_no_element_and_reads_the_same(value: Any) -> None:
    text = json_for_html([value, "</script><!--", "\ud800", "\x00"])
    assert "<" not in text
    assert text.isascii()
    assert json.loads(text) == [value, "</script><!--", "\ud800", "\x00"]
