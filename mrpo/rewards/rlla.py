"""RLLA, ToolRL's format of a turn (arXiv 2504.13958, section 3.2)::

    <think> … </think>
    <tool_call>
    {"name": "get_news", "parameters": {"page": 1}}
    {"name": …}
    </tool_call>
    <response> … </response>

with ``tool_call``, a JSON object a line, or ``response``, or both.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple


class Call(NamedTuple):
    name: str
    parameters: dict[str, Any]


def fields_of(ground_truth: Any) -> list[str]:
    """The fields that ``ground_truth`` consists of. ``think`` always belongs to them.

    Raises:
        ValueError: it isn't a text in RLLA's format.
    """
    if not isinstance(ground_truth, str):
        raise ValueError(f"ground truth: given {type(ground_truth).__name__}, allowed: a text in RLLA's format")
    said = _after_thought(ground_truth)
    fields = [field for field in ("tool_call", "response") if f"<{field}>" in said]
    if not fields and "<think>" not in ground_truth:
        raise ValueError(f"ground truth: given {ground_truth[:60]!r}, allowed: a text in RLLA's format")
    return ["think", *fields]


def calls_of(text: str) -> list[Call]:
    """The calls in the first ``<tool_call>`` after the thought.

    Raises:
        ValueError: there is no complete ``<tool_call>``, or a line in it isn't a call; the message names it.
    """
    _, opened, rest = _after_thought(text).partition("<tool_call>")
    content, closed, _ = rest.partition("</tool_call>")
    if not opened or not closed:
        raise ValueError("no complete <tool_call>…</tool_call>")
    return [_call(line) for line in content.split("\n") if line.strip()]


def _after_thought(text: str) -> str:
    _, closed, rest = text.partition("</think>")
    return rest if closed else text


def _call(line: str) -> Call:
    try:
        given = json.loads(line)
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        raise ValueError(f"not a JSON object: {line[:80]!r}")
    name, parameters = given.get("name"), given.get("parameters")
    if not isinstance(name, str) or not isinstance(parameters, dict):
        raise ValueError(f"lacks a name or an object of parameters: {line[:80]!r}")
    return Call(name, parameters)
