"""JSON by a schema, of the config or of the row."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrpo.rewards.library.json_schema import json_schema

pytestmark = pytest.mark.unit

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "friends": {"type": "array", "items": {"$ref": "#"}}},
    "required": ["name"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ('{"name": "Zoë"}', 1),
        ('{"name": "Zoë", "friends": [{"name": "李", "friends": []}]}', 1),
        ('{"name": "Zoë", "friends": [{"friends": []}]}', 0),
        ('{"name": 1}', 0),
        ('Sure:\n```json\n{"name": "a"}\n```\nDone.', 1),
        ('```\n{"name": 1}\n```\nor\n```json\n{"name": "a"}\n```', 1),
        ('{"name": "a"} and so on', 0),
        ('{"name": "a"', 0),
        ("", 0),
        ("null", 0),
        ("[" * 100_000, 0),
    ],
)
def test_a_nested_schema(response: str, expected: float) -> None:
    assert json_schema(schema=PERSON)([], response, None, {}) == expected


@pytest.mark.parametrize("response", ["NaN", "[Infinity]", "-Infinity"])
def test_what_only_python_takes_for_json_is_none(response: str) -> None:
    assert json_schema(schema={})([], response, None, {}) == 0


@pytest.mark.parametrize("schema", [PERSON, json.dumps(PERSON)])
def test_the_row_may_bring_the_schema_as_object_or_text(schema: Any) -> None:
    assert json_schema()([], '{"name": "a"}', None, {"schema": schema}) == 1
    assert json_schema()([], '{"name": 1}', None, {"schema": schema}) == 0


def test_it_can_look_into_a_tag() -> None:
    scored = json_schema(schema=PERSON, tag="out")
    assert scored([], '{} <out>{"name": "a"}</out>', None, {}) == 1
    assert scored([], '{"name": "a"}', None, {}) == 0


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({}, "not given"),
        ({"schema": "{"}, "not JSON"),
        ({"schema": {"type": "objekt"}}, "not a JSON schema"),
        ({"schema": {"$ref": "https://example.com/person.json"}}, "doesn't hold"),
    ],
)
def test_a_row_without_a_usable_schema_raises(extra: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        json_schema()([], "{}", None, extra)


def test_an_option_that_is_no_schema_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="not a JSON schema"):
        json_schema(schema={"type": "objekt"})


@settings(deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(), st.lists))
def test_the_schema_true_takes_every_json_and_nothing_else(value: Any) -> None:
    assert json_schema(schema={})([], json.dumps(value), None, {}) == 1
    assert json_schema(schema={})([], json.dumps(value) + "}", None, {}) == 0
