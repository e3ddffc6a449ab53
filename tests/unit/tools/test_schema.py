"""What a model is told of a tool is what its signature and docstring say, or the tool is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pytest

from mrpo.errors import ConfigError
from mrpo.tools.schema import offered, schema_of, tool_of

pytestmark = pytest.mark.unit


def search(query: str, most: int = 3, order: Literal["new", "old"] = "new", *, index: str, shards: int = 1) -> str:
    """Search the index.

    Args:
        query: What to look for.
        most: How many to return.
        order: Which first.
        index: Where.
        shards: In how many parts.
    """
    return f"{query} {most} {order} {index} {shards}"


def other(x: str) -> str:
    """Say it.

    Args:
        x: What.
    """
    return x


def untyped(x, y: int):  # type: ignore[no-untyped-def]
    """Do.

    Args:
        x: One.
        y: Two.
    """


def undescribed(x: int) -> int:
    """Do."""
    return x


def anything(*args: int) -> int:
    """Do."""
    return args[0]


def of_any_type(x: Any) -> int:
    """Do.

    Args:
        x: One.
    """
    return int(x)


TOOLS = {tool.name: tool for tool in (tool_of(search), tool_of(other))}


def test_a_schema_has_the_models_parameters_and_none_of_the_rows() -> None:
    function = schema_of(TOOLS["search"])["function"]
    assert (function["name"], function["description"]) == ("search", "Search the index.")
    assert function["parameters"] == {
        "type": "object",
        "properties": {
            "query": {"type": "string", "description": "What to look for."},
            "most": {"type": "integer", "description": "How many to return."},
            "order": {"type": "string", "enum": ["new", "old"], "description": "Which first."},
        },
        "required": ["query"],
    }


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (untyped, "untyped: .*x.*A tool needs a docstring, a type for each parameter"),
        (undescribed, "undescribed: .*no description for the argument 'x'"),
        (anything, r"takes \*args: .?int.?, allowed: parameters that have a name each"),
        (of_any_type, "x may be of any type, allowed: one that JSON has"),
        (lambda: 1, "A tool needs a docstring"),
    ],
)
def test_a_function_that_a_model_cannot_be_told_of_is_refused(function: Callable[..., Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        schema_of(tool_of(function))


def test_a_row_gives_arguments_and_selects_tools() -> None:
    given = {"tools_kwargs": {"search": {"index": "wiki", "shards": None}, "other": None}}
    assert [tool.name for tool in offered(TOOLS, given)] == ["search", "other"]
    assert [tool.name for tool in offered(TOOLS, {"tool_selection": ["other"]})] == ["other"]
    assert TOOLS["search"].arguments({"query": "q"}, {"index": "wiki"}) == {"query": "q", "index": "wiki"}


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({}, "extra_info.tools_kwargs.search: lacks index"),
        ({"tool_selection": ["serch"]}, "extra_info.tool_selection: unknown tool 'serch'. Did you mean 'search'"),
        ({"tools_kwargs": {"find": {}}}, "extra_info.tools_kwargs: unknown tool 'find'"),
        ({"tools_kwargs": {"search": {"indx": "a"}}}, "tools_kwargs.search: unknown argument 'indx'. Did you mean"),
        ({"tools_kwargs": {"search": {"query": "a", "index": "b"}}}, "unknown argument 'query'"),
    ],
)
def test_a_row_that_gives_a_tool_something_else_is_refused(extra: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        offered(TOOLS, extra)
