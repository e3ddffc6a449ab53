"""What a policy writes as it degenerates: 64 KB of the same over and over. It is scored, in time linear in its length.

No time is measured here: one that is quadratic again doesn't end within the test's time limit.
"""

from __future__ import annotations

import importlib
import random
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from mrpo.rewards.function import RewardFunction, load_function
from mrpo.rewards.library import _limit
from mrpo.rewards.library._text import Block, blocks, fenced
from mrpo.rewards.library._vader import LinearAnalyzer
from mrpo.rewards.library.normalized_match import normalized
from tests.unit.rewards.library.rows import require_sandbox

pytestmark = [pytest.mark.unit, pytest.mark.timeout(60)]

LENGTH = 1 << 16
CALL = '<think>x</think><tool_call>\n{"name": "f", "parameters": {"a": 1}}\n</tool_call>'
UNIQUE = {"type": "array", "uniqueItems": True}
REWARDS: dict[str, tuple[dict[str, Any], Any]] = {
    "exact_match": ({"tag": "answer"}, "a"),
    "normalized_match": ({}, "a b"),
    "math": ({"extract": "any"}, "2"),
    "tool_call": ({}, CALL),
    "tool_format": ({}, CALL),
    "tags": ({"names": ["think", "answer"]}, None),
    "regex": ({"pattern": r"(?s)<think>.*</think>\s*<answer>.*</answer>"}, None),
    "json_schema": ({"schema": UNIQUE}, None),
    "length": ({"kind": "cap", "cap": 9, "unit": "words", "tag": "answer"}, None),
    "keywords": ({"must": ["a a", "b"], "must_not": ["c"], "counts": {"x": 3}}, None),
    "sentiment": ({}, None),
}
"""Options and ground truth of each that reads the response here."""

PIECES = {
    "space": " ",
    "line": "\n",
    "word": "good ",
    "but": "good but bad ",
    "emoji": "😂   ",
    "marks": "\u0301\u0323",
    "digits": "1",
    "dots": "1.",
    "backticks": "`",
    "fence": "```x\n",
    "closed fence": "```json\n[]\n```\n",
    "indented fence": "  \t```\n",
    "tag": "<think>",
    "tags": "<think></think><answer></answer>",
    "closing tag": "</answer>",
    "call": '<tool_call>\n{"name": "f", "parameters": {"a": 1}}\n',
    "calls": '{"name": "f", "parameters": {"a": [1]}}\n',
    "box": r"\boxed{",
    "closed box": r"\boxed{1}",
    "box and space": "\\boxed ",
    "brace": "{",
    "bracket": "[",
    "power": "2^",
    "root": r"\sqrt",
    "percent": r" \%",
    "quote": '"a ',
    "nul": "\0",
}


@pytest.fixture(scope="module")
def rewards() -> dict[str, RewardFunction]:
    return {name: load_function(name, Path(), options) for name, (options, _) in REWARDS.items()}


AROUND = {
    "math": ("\\boxed{", "}"),
    "tool_call": ("</think><tool_call>\n", "</tool_call>"),
    "json_schema": ("[", "]"),
    "regex": ("<think>", "<answer>"),
}


@pytest.mark.parametrize("name", REWARDS)
def test_repetition_is_scored(rewards: dict[str, RewardFunction], name: str) -> None:
    low, high = importlib.import_module(f"mrpo.rewards.library.{name}").bounds(**REWARDS[name][0])
    before, after = AROUND.get(name, ("", ""))
    for piece in PIECES.values():
        text = piece * (LENGTH // len(piece))
        for response in {text, before + text + after}:
            assert low <= rewards[name]([], response, REWARDS[name][1], {}) <= high


def test_even_a_megabyte_of_fences_is_read() -> None:
    assert blocks("```x\n" * (1 << 18)) == []
    assert blocks("```x\n" * (1 << 18) + "```") == [Block("x", "```x\n" * ((1 << 18) - 1))]
    assert blocks(" " * (1 << 20) + "```x\n" + "\n" * (1 << 18) + "```") == [Block("x", "\n" * (1 << 18))]


def test_repetition_is_a_program_that_passes_nothing() -> None:
    require_sandbox()
    score = load_function("code", Path(), {"seconds": 1})
    for piece in ("```x\n", "```python\n(\n", "```python\nx\n```\n", "x = -"):
        response = f"{piece * (LENGTH // len(piece))}\n```\n"
        assert score([], response, [{"input": "", "output": "3"}], {}) == 0


HARD = [
    r"\boxed{(x+y+z+w)^{300}}",
    r"\boxed{(1+\sqrt2+\sqrt3)^{999}}",
    r"\boxed{\binom{99999999}{50000000}}",
    r"\boxed{\int_0^1 \frac{x^{99}\sin(x^{7})}{1+e^{x}\cos(x^3)} dx}",
]


def test_mathematics_that_takes_too_long_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_limit, "MAX_SECONDS", 0.5)
    score = load_function("math", Path())
    assert score([], r"\boxed{\frac{1}{2}}", "0.5", {}) == 1
    for answer in HARD:
        assert score([], answer, "2", {}) == 0
    assert score([], r"\boxed{\frac{1}{2}}", "0.5", {}) == 1


def test_a_pattern_or_a_schema_that_takes_too_long_isnt_met(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_limit, "MAX_SECONDS", 0.3)
    matches = load_function("regex", Path(), {"pattern": "(a+)+$", "mode": "whole"})
    assert (matches([], "a" * 40 + "b", None, {}), matches([], "aaa", None, {})) == (0, 1)
    valid = load_function("json_schema", Path(), {"schema": UNIQUE})
    many = ", ".join(f'{{"a": {n}}}, {n}' for n in range(4000))  # they can't be sorted, so each is compared with each
    assert (valid([], f"[{many}]", None, {}), valid([], "[{}, 1]", None, {})) == (0, 1)


PARTS = [
    "good",
    "bad",
    "GREAT",
    "but",
    "not",
    "never so",
    "this",
    "kind of",
    "the shit",
    "least",
    "no",
    "x",
    "at",
    "very",
]
PARTS += [
    "without doubt",
    "n't",
    "!",
    ":)",
    "😂",
    "x y z yeah right",
    "x y z to die for",
    "beating heart",
    "kiss of death",
]
LINEAR, RELEASE = LinearAnalyzer(), SentimentIntensityAnalyzer()


@settings(deadline=None)
@given(st.integers(0, 1 << 30))
def test_sentiment_is_what_vaders_release_makes_of_it(seed: int) -> None:
    text = " ".join(random.Random(seed).choices(PARTS, k=seed % 50))
    assert LINEAR.polarity_scores(text) == RELEASE.polarity_scores(text)
    halves = "alol x x x but x x x ntmu"  # the last is worth half the first, and so is taken for it
    assert LINEAR.polarity_scores(halves) == RELEASE.polarity_scores(halves)


@given(
    st.lists(st.sampled_from(["```", "~~~", "`", "x", "\n", "\r\n", "json", "\r", "\x0b"]), max_size=20).map("".join)
)
def test_a_fenced_block_is_what_a_pattern_would_find(text: str) -> None:
    plain = text.replace("\r\n", "\n").replace("\r", "\n")
    pattern = r"^(?:(```)([^`\n]*)|(~~~)([^\n]*))\n(.*?)^(?:\1|\3)[ \t\x0b]*$"
    # one pattern has no room for longer fences, and doesn't see that an open one of the other kind takes all
    if not re.search("`{4}|~{4}|```.*~~~|~~~.*```", plain, re.DOTALL):
        found = re.findall(pattern, plain, re.DOTALL | re.MULTILINE)
        languages = [(ticks or tildes).strip() for _, ticks, _, tildes, _ in found]
        expected = [
            ((re.match("[a-z]*", info) or [""])[0], one[-1]) for info, one in zip(languages, found, strict=True)
        ]
        assert [tuple(block) for block in blocks(text)] == expected
    labelled = [block.content for block in blocks(text) if block.language == "json"]
    assert fenced(blocks(text), ("json",)) == (labelled or [b.content for b in blocks(text) if not b.language])


def test_a_letter_keeps_the_marks_that_languages_put_on_it() -> None:
    assert normalized("a" + "\u0301" * 30) != normalized("a" + "\u0301" * 29)
    assert normalized("a" + "\u0301" * 31) == normalized("a" + "\u0301" * 30)
