"""BFCL's questions as rows for the rewards ``tool_call`` and ``tool_format``, in RLLA's format (``mrpo.rewards.rlla``).

BFCL (the Berkeley Function-Calling Leaderboard, v4) accepts several values for a parameter, and leaves some parameters
out. A row's ground truth is one accepted turn; ``extra_info.accepts`` says, as JSON, all that is accepted: for each
call its name and, for each parameter, its ``options`` and whether it ``must`` be given.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mrpo.prepare.rows import Row, make_row

THOUGHT = "<think> I should use the appropriate tool with proper parameters to respond to the user's need. </think>"
"""RLLA's RL data have this in the place of a thought. It is never scored."""
REFUSAL = f"{THOUGHT}\n<response> None of the tools fits. </response>"
HINT = (
    "If no tool fits or a required parameter is missing, say so in your response, without a tool call. "
    "Otherwise make all the tool calls that this needs, in this turn."
)
"""BFCL's prompts don't say that there is one turn, or that it may need no tool."""

Object = Mapping[str, Any]


def bfcl_rows(
    category: str, questions: Iterable[Object], answers: Iterable[Object], frame: tuple[str, str]
) -> list[Row]:
    """The rows of a category.

    Args:
        questions: the lines of ``BFCL_v4_CATEGORY.json``.
        answers: the lines of the file of that name in ``possible_answer``; none where no tool fits.
        frame: what stands before and after the list of tools in the system prompt.
    """
    accepted_by_id = {answer["id"]: answer["ground_truth"] for answer in answers}
    rows = []
    for index, question in enumerate(questions):
        asked = "\n".join(m["content"].strip() for m in question["question"][0] if m["role"] == "user")
        messages = [
            {"role": "system", "content": tool_list(question["function"]).join(frame)},
            {"role": "user", "content": f"**Dialogue Records History**\n<user> {asked}\n{HINT} </user>"},
        ]
        accepts = [call_accepted(call, question["function"]) for call in accepted_by_id.get(question["id"], [])]
        truth = turn([an_answer(call) for call in accepts]) if accepts else REFUSAL
        extra = {"split": "test", "accepts": json.dumps(accepts)}
        rows.append(make_row(f"bfcl/{category}", messages, truth, index=index, **extra))
    return rows


def turn(calls: Iterable[Object]) -> str:
    """RLLA's format of a turn that calls tools."""
    body = "\n".join(json.dumps(call, ensure_ascii=False) for call in calls)
    return f"{THOUGHT}\n<tool_call>\n{body}\n</tool_call>"


def tool_list(tools: Iterable[Object]) -> str:
    """Tools as RLLA lists them."""
    return "\n".join(
        f"{number}. Name: {tool['name']}\nDescription: {tool['description']}\n"
        f"Parameters: {json.dumps(tool['parameters'].get('properties', {}))}"
        for number, tool in enumerate(tools, 1)
    )


def call_accepted(answer: Object, tools: Sequence[Object]) -> dict[str, Any]:
    """A possible answer with, for each parameter, whether the call must give it.

    BFCL marks what may be left out by an accepted ""; what the tool requires may not be left out all the same. Two rows
    have parameters without any accepted value, so that nothing would be right; they are lists, and may be left out or
    empty here.
    """
    ((name, parameters),) = answer.items()
    required = next(tool["parameters"].get("required", []) for tool in tools if tool["name"] == name)
    wanted = {
        key: {"options": given or ["", []], "must": bool(given) and (key in required or "" not in given)}
        for key, given in parameters.items()
    }
    return {"name": name, "parameters": wanted}


def an_answer(accepted: Object) -> dict[str, Any]:
    """One of the calls that are accepted: the first option of each parameter that it must give."""
    given = {key: _first(wanted["options"]) for key, wanted in accepted["parameters"].items() if wanted["must"]}
    return {"name": accepted["name"], "parameters": given}


def _first(options: Iterable[Any]) -> Any:
    """The first option, itself without options. Within an object each value is a list of options again."""
    return _without_options(next((option for option in options if option != ""), ""))


def _without_options(option: Any) -> Any:
    if isinstance(option, dict):
        return {key: _first(values) for key, values in option.items() if "" not in values}
    return [_without_options(item) for item in option] if isinstance(option, list) else option
