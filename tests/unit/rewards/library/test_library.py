"""Every kind is found by its bare name, says what it is, and gives its bounds."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

import mrpo.rewards.library
from mrpo.errors import ConfigError
from mrpo.registry import module_names
from mrpo.rewards.function import load_function
from tests.unit.rewards.library.rows import require_sandbox

pytestmark = pytest.mark.unit

KINDS: dict[str, tuple[dict[str, Any], tuple[float, float]]] = {
    "exact_match": ({}, (0, 1)),
    "normalized_match": ({}, (0, 1)),
    "math": ({}, (0, 1)),
    "tool_call": ({}, (-3, 3)),
    "tool_format": ({}, (0, 1)),
    "tags": ({"names": ["think"]}, (0, 1)),
    "regex": ({"pattern": "a"}, (0, 1)),
    "json_schema": ({"schema": {"type": "object"}}, (0, 1)),
    "length": ({"kind": "cosine", "cap": 9, "start": 2, "end": 1, "exceed": -10}, (-10, 2)),
    "keywords": ({"must": ["a"]}, (0, 1)),
    "sentiment": ({}, (0, 1)),
    "code": ({}, (0, 1)),
    "bug_ratio": ({}, (-1, 0)),
}


RUN_CODE = ("code", "bug_ratio")


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_loads_by_its_bare_name_with_its_options_and_tells_its_bounds(name: str) -> None:
    options, expected = KINDS[name]
    if name in RUN_CODE:
        require_sandbox()
    module = importlib.import_module(f"mrpo.rewards.library.{name}")
    assert callable(load_function(name, Path(), options))
    assert module.bounds(**options) == expected
    assert (module.__doc__ or "").splitlines()[0].endswith(".")
    assert getattr(module, name).__doc__


@pytest.mark.parametrize("name", KINDS)
def test_an_unknown_option_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="no_such_option"):
        load_function(name, Path(), {**KINDS[name][0], "no_such_option": 1})


def test_the_table_lists_every_kind() -> None:
    listed = re.findall(r"^\| ``(\w+)``", mrpo.rewards.library.__doc__ or "", re.MULTILINE)
    assert sorted(listed) == module_names("mrpo.rewards.library")
