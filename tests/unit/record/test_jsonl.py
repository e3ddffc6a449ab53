"""Lines survive kills and say where they are broken."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrpo.record import jsonl

pytestmark = pytest.mark.unit

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def _reject_constant(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


@given(st.dictionaries(st.text(), _VALUES, max_size=4))
def test_every_record_becomes_one_line_of_strict_json(record: dict[str, Any]) -> None:
    line = jsonl.encode(record)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert json.loads(line, parse_constant=_reject_constant).keys() == record.keys()


@given(st.dictionaries(st.text(), st.floats(), max_size=4))
def test_numbers_come_back_and_what_json_lacks_is_null(record: dict[str, float]) -> None:
    back = json.loads(jsonl.encode(record))
    assert back == {key: value if math.isfinite(value) else None for key, value in record.items()}


def test_scalars_of_array_libraries_are_numbers() -> None:
    numpy = pytest.importorskip("numpy")
    record = {
        "a": numpy.float32(0.5),
        "b": numpy.int64(3),
        "c": numpy.float64("nan"),
        "d": numpy.array([1.0, math.inf]),
    }
    assert json.loads(jsonl.encode(record)) == {"a": 0.5, "b": 3, "c": None, "d": [1.0, None]}


def test_what_has_no_json_form_is_refused() -> None:
    with pytest.raises(TypeError, match="object"):
        jsonl.encode({"a": object()})


def test_torn_last_line_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(b'{"step":1}\n{"step":2}\n{"st')
    assert jsonl.read(file) == [{"step": 1}, {"step": 2}]


def test_writer_cuts_off_a_torn_line_and_keeps_the_rest(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(b'{"step":1}\n{"st')
    jsonl.append(file, {"step": 2})
    assert jsonl.read(file) == [{"step": 1}, {"step": 2}]


def test_kill_at_any_byte_costs_at_most_the_last_line(tmp_path: Path) -> None:
    records = [{"step": step, "text": "é\n"} for step in range(3)]
    whole = b"".join(map(jsonl.encode, records))
    for cut in range(len(whole) + 1):
        file = tmp_path / "cut.jsonl"
        file.write_bytes(whole[:cut])
        kept = jsonl.read(file)
        assert kept == records[: whole[:cut].count(b"\n")]
        jsonl.append(file, {"step": 9})
        assert jsonl.read(file) == [*kept, {"step": 9}]


@pytest.mark.parametrize("garbage", [b"not json", b"", b"[1]", b'{"step":2', b"\xff\xfe", b'{"other":1}'])
def test_garbage_before_the_end_names_file_and_line(tmp_path: Path, garbage: bytes) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(b'{"step":1}\n' + garbage + b'\n{"step":3}\n')
    with pytest.raises(jsonl.CorruptLineError, match=r"metrics\.jsonl:2: "):
        jsonl.read(file, required=("step",))


def test_missing_file_has_no_lines(tmp_path: Path) -> None:
    assert jsonl.read(tmp_path / "nothing.jsonl") == []


def test_input_may_have_blank_lines_and_no_last_newline(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_bytes(b'{"a":1}\r\n\n  \n{"a":2}')
    assert list(jsonl.read_input(file)) == [(1, {"a": 1}), (4, {"a": 2})]


@pytest.mark.parametrize("garbage", [b"not json", b"[1]", b'{"step":2', b"\xff\xfe"])
def test_garbage_in_an_input_names_file_and_line(tmp_path: Path, garbage: bytes) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_bytes(b'{"a":1}\n\n' + garbage)
    with pytest.raises(jsonl.CorruptLineError, match=r"mine\.jsonl:3: "):
        list(jsonl.read_input(file))


def test_tail_returns_each_line_once_and_a_half_line_only_when_it_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    tail = jsonl.Tail(file)
    assert tail.poll() == []
    file.write_bytes(b'{"a":1}\n{"a"')
    assert tail.poll() == [{"a": 1}]
    assert tail.poll() == []
    with open(file, "ab") as stream:
        stream.write(b':2}\n{"a":3}\n')
    assert tail.poll() == [{"a": 2}, {"a": 3}]


def test_tail_goes_on_after_a_torn_line_was_cut_off(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_bytes(b'{"a":1}\n{"a":2222')
    tail = jsonl.Tail(file)
    assert tail.poll() == [{"a": 1}]
    jsonl.append(file, {"a": 3})
    assert tail.poll() == [{"a": 3}]
