"""ToolRL's format: the fields that the ground truth has, in order, each once."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from mrpo.rewards.library.tool_format import tool_format
from tests.unit.rewards.library.rows import real_file

pytestmark = pytest.mark.unit

CALL = '<tool_call>\n{"name": "f", "parameters": {}}\n</tool_call>'
SAID = "<response> Done. </response>"
THOUGHT = "<think> hm </think>"


@pytest.mark.parametrize(
    ("response", "truth", "expected"),
    [
        (f"{THOUGHT}\n{CALL}", f"{THOUGHT}\n{CALL}", 1),
        (f"{THOUGHT}\n{SAID}", f"{THOUGHT}\n{SAID}", 1),
        (f"{THOUGHT}\n{CALL}\n{SAID}", f"{THOUGHT}\n{CALL}\n{SAID}", 1),
        (f" {THOUGHT} {CALL} \n\n {SAID}\n", f"{THOUGHT}\n{CALL}\n{SAID}", 1),
        (f"{THOUGHT}\n{CALL}", f"{THOUGHT}\n{SAID}", 0),
        (f"{THOUGHT}\n{CALL}\n{SAID}", f"{THOUGHT}\n{SAID}", 0),
        (f"{THOUGHT}\n{SAID}\n{CALL}", f"{THOUGHT}\n{CALL}\n{SAID}", 0),
        (CALL, f"{THOUGHT}\n{CALL}", 0),
        (f"{THOUGHT}\n{CALL}\n{CALL}", f"{THOUGHT}\n{CALL}", 0),
        (f"{THOUGHT}\n{CALL}!", f"{THOUGHT}\n{CALL}", 0),
        (f"<think> hm\n{CALL}", f"{THOUGHT}\n{CALL}", 0),
        ("", f"{THOUGHT}\n{CALL}", 0),
        (f"{THOUGHT}\n<tool_call>\nnot JSON\n</tool_call>", f"{THOUGHT}\n{CALL}", 1),
        ("<think> héllo – 你好 </think>", THOUGHT, 1),
    ],
)
def test_by_hand(response: str, truth: str, expected: float) -> None:
    assert tool_format([], response, truth, {}) == expected


@pytest.mark.parametrize("truth", [None, "", "Paris", [{"name": "f"}]])
def test_a_ground_truth_in_another_format_raises(truth: Any) -> None:
    with pytest.raises(ValueError, match="RLLA"):
        tool_format([], f"{THOUGHT}\n{CALL}", truth, {})


def test_every_real_ground_truth_is_in_format() -> None:
    rows = pd.read_parquet(real_file("toolrl/dataset/rlla_4k/test.parquet"))
    truths = [row["ground_truth"] for row in rows["reward_model"]]
    assert [tool_format([], truth, truth, {}) for truth in truths] == [1] * len(rows)


def test_a_thought_that_the_prompt_has_opened_counts() -> None:
    truth = f"{THOUGHT}\n{CALL}"
    rest = truth.removeprefix("<think>")
    assert tool_format([], rest, truth, {}) == 0
    assert tool_format([], rest, truth, {"opened_tag": "think"}) == 1


CALL = '<tool_call>{"name": "f", "arguments": {}}</tool_call>'


@pytest.mark.parametrize(
    ("response", "truth", "formed"),
    [
        (f"<think>t</think>\n{CALL}\n{CALL}", f"<think>t</think>{CALL}", 1),
        (f"{CALL}\n{CALL}", f"<think>t</think>{CALL}", 0),
        (f"{CALL}\n{CALL}", CALL, 1),
        (f"<think>t</think>{CALL}", CALL, 1),
        (f"{CALL} and {CALL}", CALL, 0),
        (f"{CALL}<tool_call>", CALL, 0),
    ],
)
def test_other_dialects_may_have_a_tag_a_call_and_no_thought(response: str, truth: str, formed: int) -> None:
    for dialect in ("hermes", "any"):
        assert tool_format([], response, truth, {}, dialect=dialect) == formed
    assert tool_format([], f"<think>t</think>\n{CALL}\n{CALL}", f"<think>t</think>{CALL}", {}) == 0
