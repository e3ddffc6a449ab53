"""The calculator recipe's tool, its rewards, and the conversations that its model learns from."""

from __future__ import annotations

import json
import random
import re
from typing import Any

import pytest

from mrpo.config.recipes import find_recipe
from mrpo.rewards.function import find

pytestmark = pytest.mark.unit

RECIPE = find_recipe("calculator").folder
NAMES: dict[str, Any] = find("prepare.py:main", RECIPE).__globals__
CALLED = {"name": "calculator", "arguments": "{}", "result": "6", "failure": None}


@pytest.mark.parametrize(("expression", "result"), [("12*34", "408"), ("10-99", "-89"), ("2+3*4", "14")])
def test_the_tool_works_out_whole_numbers(expression: str, result: str) -> None:
    assert find("tools.py:calculator", RECIPE)(expression) == result


@pytest.mark.parametrize("expression", ["2**99999", "__import__('os')", "1/0", "12*", "1.5", "True", "a"])
def test_the_tool_runs_nothing_else(expression: str) -> None:
    with pytest.raises((ValueError, SyntaxError)):
        find("tools.py:calculator", RECIPE)(expression)


@pytest.mark.parametrize(
    ("response", "calls", "scores"),
    [
        ("<answer>6</answer>", [CALLED], (1, 1, 1)),
        ("<answer>6</answer>", [], (1, 1, 1)),
        ("<answer>6</answer>", [CALLED, CALLED], (1, 0, 1)),
        ("<answer>6</answer>", [{**CALLED, "failure": "exception"}], (1, 1, 0)),
        ("6", [CALLED], (1, 1, 0)),
        ("<answer>7</answer>", [CALLED], (0, 1, 1)),
        ("<answer>6</answer> or <answer>7</answer>", [CALLED], (0, 1, 0)),
        ('<tool_call>{"name": "calculator", "arguments": {"expression": "2*3"}}</tool_call>', [CALLED] * 3, (0, 0, 0)),
        ("", [], (0, 1, 0)),
    ],
)
def test_rewards_read_the_last_turn_and_the_calls(
    response: str, calls: list[dict[str, Any]], scores: tuple[float, float, float]
) -> None:
    extra = {"tool_calls": calls}
    given = [
        find(f"rewards.py:{name}", RECIPE)(None, response, "6", extra) for name in ("right", "few_calls", "well_formed")
    ]
    assert tuple(given) == scores


def test_a_good_days_conversation_is_right_and_a_sloppy_one_has_the_tools_own_words() -> None:
    draw = random.Random(0)
    seen = set()
    for sloppy in (False, True) * 200:
        question = NAMES["draw_question"](draw)
        *calls, (answer, _) = NAMES["conversation"](question, draw, sloppy)
        for said, result in calls:
            call = json.loads(re.fullmatch(r"<tool_call>(.*)</tool_call>", said)[1])  # type: ignore[index]
            try:
                told = find("tools.py:calculator", RECIPE)(**call["arguments"])
            except SyntaxError as error:
                told = f"Error: SyntaxError: {error}"
            assert told.startswith(result)
        if not sloppy:
            assert (len(calls), answer) == (1, f"<answer>{question.result}</answer>")
        seen.add((len(calls), "<answer>" in answer))
    assert {(0, True), (0, False), (1, True), (2, False)} <= seen
