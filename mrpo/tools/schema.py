"""What a model is told of a tool: its name, docstring and parameters, read off a plain Python function.

The schema is transformers' (``get_json_schema``), in the form that chat templates take as ``tools``. Parameters that
are keyword-only are none of the model's: the row of the data gives them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mrpo.errors import ConfigError, unknown_name
from mrpo.rewards.function import find

FIELD = "rollout.agent.tools"
TOOLS_KWARGS, TOOL_SELECTION = "tools_kwargs", "tool_selection"
"""In a row's ``extra_info``: keyword-only arguments by tool, and the names of the tools that it is offered."""


@dataclass(frozen=True)
class Tool:
    """A function that the model may call."""

    name: str
    function: Callable[..., Any]
    of_row: tuple[str, ...]
    """Its keyword-only parameters."""
    needed_of_row: tuple[str, ...]
    """Those without a default."""

    def arguments(self, given: Mapping[str, Any], of_row: Mapping[str, Any]) -> dict[str, Any]:
        """All arguments of a call, the model's and the row's.

        Raises:
            TypeError: the function doesn't take the model's, or lacks one.
        """
        if stolen := sorted({*given} & {*self.of_row}):
            raise TypeError(f"got an unexpected keyword argument '{stolen[0]}'")
        everything = {**given, **{name: of_row[name] for name in self.of_row if name in of_row}}
        inspect.signature(self.function).bind(**everything)
        return everything


def load_tools(given: Sequence[str], folder: Path) -> dict[str, Tool]:
    """The tools by name, in their order; ``FILE.py`` is relative to ``folder``.

    Raises:
        ConfigError: there is no such function, or it isn't fit to be one; two have the same name.
    """
    tools: dict[str, Tool] = {}
    for number, one in enumerate(given):
        tool = tool_of(find(one, folder, "tool"), f"{FIELD}[{number}]")
        if tool.name in tools:
            raise ConfigError(f"{FIELD}[{number}]: given a second tool {tool.name!r}, allowed: a name of its own.")
        tools[tool.name] = tool
    return tools


def tool_of(function: Callable[..., Any], field: str = FIELD) -> Tool:
    """A tool of a function. Raises ConfigError if it takes parameters that have no name each."""
    name = getattr(function, "__name__", str(function))
    parameters = inspect.signature(function).parameters.values()
    for parameter in parameters:
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise ConfigError(f"{field}: {name} takes {parameter}, allowed: parameters that have a name each.")
    of_row = tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)
    needed = tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty)
    return Tool(name, function, of_row, needed)


def schema_of(tool: Tool) -> dict[str, Any]:
    """What the chat template is given of a tool.

    Raises:
        ConfigError: a parameter has no type or no description, or is one that no schema can express.

    >>> def double(number: int, *, unit: str = "m") -> str:
    ...     '''Double a number.
    ...
    ...     Args:
    ...         number: The number.
    ...         unit: What it counts.
    ...     '''
    ...     return f"{2 * number} {unit}"
    >>> schema_of(tool_of(double))["function"]["parameters"]["properties"]
    {'number': {'type': 'integer', 'description': 'The number.'}}
    """
    from transformers.utils import get_json_schema  # imports torch

    try:
        whole = get_json_schema(tool.function)["function"]
    except Exception as error:  # transformers' own kinds, and what an annotation raises
        raise ConfigError(
            f"{FIELD}: {tool.name}: {str(error).strip()} A tool needs a docstring, a type for each parameter, and a "
            "line for each under Args:."
        ) from None
    about = whole["parameters"]
    properties = {key: value for key, value in about["properties"].items() if key not in tool.of_row}
    for key, value in properties.items():
        if "type" not in value:
            raise ConfigError(f"{FIELD}: {tool.name}: {key} may be of any type, allowed: one that JSON has.")
    required = [key for key in about.get("required", []) if key not in tool.of_row]
    taken = {"type": "object", "properties": properties, "required": required}
    function = {"name": tool.name, "description": whole["description"], "parameters": taken}
    return {"type": "function", "function": function}


def offered(tools: Mapping[str, Tool], extra_info: Mapping[str, Any]) -> list[Tool]:
    """The tools that a row offers, all unless it selects some.

    Raises:
        ConfigError: it selects a tool that there isn't, or lacks an argument of one.
    """
    selection: Collection[str] | None = extra_info.get(TOOL_SELECTION)
    for name in selection if selection is not None else ():
        if name not in tools:
            raise unknown_name(f"extra_info.{TOOL_SELECTION}", name, tools, noun="tool")
    found = [tools[name] for name in selection] if selection is not None and len(selection) else list(tools.values())
    arguments = extra_info.get(TOOLS_KWARGS) or {}
    for name in arguments:
        if name not in tools:
            raise unknown_name(f"extra_info.{TOOLS_KWARGS}", name, tools, noun="tool")
    for tool in found:
        has = {key for key, value in (arguments.get(tool.name) or {}).items() if value is not None}
        if unknown := sorted(has - {*tool.of_row}):
            raise unknown_name(f"extra_info.{TOOLS_KWARGS}.{tool.name}", unknown[0], tool.of_row, noun="argument")
        if missing := sorted({*tool.needed_of_row} - has):
            raise ConfigError(f"extra_info.{TOOLS_KWARGS}.{tool.name}: lacks {', '.join(missing)}, which it needs.")
    return found
