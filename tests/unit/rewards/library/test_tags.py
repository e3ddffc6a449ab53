"""Required tags in order, each once."""

from __future__ import annotations

from typing import Any

import pytest

from mrpo.rewards.library.tags import tags

pytestmark = pytest.mark.unit

GOOD = "<think>why</think>\n<answer>42</answer>"


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (GOOD, 1),
        (f"\n {GOOD} \n", 1),
        ("<think></think><answer></answer>", 1),
        ("<think>überlegen …</think><answer>四十二</answer>", 1),
        ("", 0),
        ("<think>why</think>", 0),
        ("<answer>42</answer><think>why</think>", 0),
        (GOOD + "<answer>43</answer>", 0),
        ("<think>I'll write <answer></think><answer>42</answer>", 0),
        ("<think>why<answer>42</answer></think>", 0),
        ("<think>why</think></answer>42<answer>", 0),
        ("<think>why</think><answer>42", 0),
        ("<Think>why</Think><answer>42</answer>", 0),
        ("Well. " + GOOD, 0),
        (GOOD + " Bye.", 0),
        ("<think>why</think> so <answer>42</answer>", 0),
    ],
)
def test_r1s_format(response: str, expected: float) -> None:
    assert tags(names=["think", "answer"])([], response, None, {}) == expected


def test_text_outside_may_be_allowed() -> None:
    assert tags(names=["think", "answer"], nothing_else=False)([], f"Well. {GOOD} Bye.", None, {}) == 1


@pytest.mark.parametrize("names", [[], "think", ["a", "a"]])
def test_names_that_are_none_are_refused_at_once(names: Any) -> None:
    with pytest.raises(ValueError, match="names: given"):
        tags(names=names)


def test_a_tag_that_the_prompt_has_opened_counts() -> None:
    rest = GOOD.removeprefix("<think>")
    score = tags(names=["think", "answer"])
    assert score([], rest, None, {}) == 0
    assert score([], rest, None, {"opened_tag": "think"}) == 1
    assert score([], f"\n{GOOD}", None, {"opened_tag": "think"}) == 1
    assert score([], "no idea", None, {"opened_tag": "think"}) == 0
