"""RLLA, ToolRL's format of a turn (arXiv 2504.13958, section 3.2)::

    <think> … </think>
    <tool_call>
    {"name": "get_news", "parameters": {"page": 1}}
    {"name": …}
    </tool_call>
    <response> … </response>

with ``tool_call``, a JSON object a line, or ``response``, or both.

Other models and templates write calls in another dialect:

| dialect | a call is | where |
|---|---|---|
| ``toolrl`` | ``{"name": …, "parameters": {…}}`` | a line each, in the first ``<tool_call>`` |
| ``hermes`` | ``{"name": …, "arguments": {…}}``, perhaps as JSON text | a ``<tool_call>`` each, over any lines |
| ``any`` | either | in any number of ``<tool_call>``, one after the other or in arrays, perhaps in a code fence |
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from mrpo.errors import unknown_name
from mrpo.rewards.library._text import blocks

DIALECTS = ("toolrl", "hermes", "any")
WORDS = {"toolrl": ("parameters",), "hermes": ("arguments",), "any": ("parameters", "arguments")}
"""What holds a call's parameters, by dialect."""


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


def wanted_calls(ground_truth: str, dialect: str) -> list[Call]:
    """The calls of a ground truth: in RLLA's format, or where ``dialect`` isn't ``toolrl`` in any.

    Raises:
        ValueError: they can't be read, or there is none.
    """
    said = _after_thought(ground_truth)
    try:
        calls = calls_of(ground_truth, "toolrl" if said.count("<tool_call>") == 1 else "any")
        hermes = said.count("<tool_call>") > 1
    except ValueError as error:
        try:
            calls, hermes = calls_of(ground_truth, "any"), True
        except ValueError:
            raise ValueError(f"ground truth: {error}") from None
    if hermes and dialect == "toolrl":
        raise ValueError(
            f"ground truth: calls as Hermes and Qwen write them ({said.strip()[:60]!r}), allowed: ToolRL's form, a "
            'line {"name": …, "parameters": {…}} each in one <tool_call>, or the option dialect: hermes (or any)'
        )
    if not calls:
        raise ValueError("ground truth: no call in its <tool_call>")
    return calls


def calls_of(text: str, dialect: str = "toolrl") -> list[Call]:
    """The calls after the thought, as ``dialect`` writes them.

    >>> calls_of('<tool_call>{"name": "f", "arguments": "{\\"x\\": 1}"}</tool_call>', "hermes")
    [Call(name='f', parameters={'x': 1})]

    Raises:
        ValueError: there is no complete ``<tool_call>``, or something in it isn't a call; the message names it.
    """
    contents = _contents(_after_thought(text), only_first=dialect == "toolrl")
    if dialect == "toolrl":
        return [_call(_json(line), line, WORDS[dialect]) for line in contents[0].split("\n") if line.strip()]
    if dialect == "hermes":
        return [_call(_json(content), content, WORDS[dialect]) for content in contents]
    return [_call(value, content, WORDS[dialect]) for content in contents for value in _values(content)]


def merged(text: str) -> str:
    """``text`` with ``<tool_call>`` blocks that follow one another as one."""
    return re.sub(r"</tool_call>\s*<tool_call>", "\n", text)


def check_dialect(dialect: str) -> None:
    """Raises ValueError if there is no such dialect."""
    if dialect not in DIALECTS:
        raise ValueError(str(unknown_name("", dialect, DIALECTS, noun="dialect")).removesuffix("."))


def _contents(text: str, only_first: bool) -> list[str]:
    """What is in each ``<tool_call>``; each has to be complete, or only the first."""
    contents = []
    for part in text.split("<tool_call>")[1:]:
        content, closed, _ = part.partition("</tool_call>")
        if not closed:
            break
        contents.append(content)
    if not contents or (not only_first and len(contents) < text.count("<tool_call>")):
        raise ValueError("no complete <tool_call>…</tool_call>")
    return contents


def _after_thought(text: str) -> str:
    _, closed, rest = text.partition("</think>")
    return rest if closed else text


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(f"not a JSON object: {text[:80]!r}") from None


def _values(content: str) -> Iterator[Any]:
    """The JSON values one after the other in ``content``, those of an array each, without its code fence."""
    found = blocks(content)
    text, decoder = (found[0].content if len(found) == 1 else content).strip(), json.JSONDecoder()
    place = 0
    while place < len(text):
        try:
            value, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            raise ValueError(f"not JSON: {text[place : place + 80]!r}") from None
        while place < len(text) and text[place].isspace():
            place += 1
        yield from value if isinstance(value, list) else [value]


def _call(given: Any, shown: str, words: tuple[str, ...]) -> Call:
    if not isinstance(given, dict):
        raise ValueError(f"not a JSON object: {shown[:80]!r}")
    held = [given[word] for word in words if word in given]
    if len(held) == 1 and isinstance(held[0], str) and "arguments" in given:
        held = [_json(held[0])]
    if not isinstance(given.get("name"), str) or len(held) != 1 or not isinstance(held[0], dict):
        raise ValueError(f"lacks a name or an object of {' or '.join(words)}: {shown[:80]!r}")
    return Call(given["name"], held[0])
