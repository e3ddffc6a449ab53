"""Equal as mathematics, by what is boxed; silly responses are 0, silly ground truths raise."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrpo.rewards.library.math import last_boxed, math
from tests.unit.rewards.library.rows import real_file, real_json

pytestmark = pytest.mark.unit


def score(response: str, truth: Any, extract: str = "boxed") -> float:
    return math(extract=extract)([], response, truth, {})


@pytest.mark.parametrize(
    ("answer", "truth"),
    [
        ("1000", "1,000"),
        ("1{,}000", "1000"),
        ("50\\%", "50%"),
        ("0.5", "50%"),
        ("50", "50\\%"),
        ("50 \\%", "$\\frac12$"),
        ("\\frac{3}{4}", "3/4"),
        ("0.75", "\\frac34"),
        ("-7.0", -7),
        ("4.5 \\times 10^{33}", "4.5e33"),
        ("x = 5", "5"),
        ("1 + 2x", "2x+1"),
        ("(3, \\frac{\\pi}{2})", "\\left( 3, \\frac{\\pi}{2} \\right)"),
        ("{2, 1}", "\\{1,2\\}"),
        ("12\\text{ cm}", "12"),
        ("\\text{Evelyn}", "\\text{Evelyn}"),
        ("2^{100}", "1267650600228229401496703205376"),
        ("3", ["2", "3"]),
    ],
)
def test_forms_of_one_value_are_equal(answer: str, truth: Any) -> None:
    assert score(f"So it is $\\boxed{{{answer}}}$.", truth) == 1


@pytest.mark.parametrize(
    ("answer", "truth"),
    [("50%", "0.5%"), ("2x+1", "2"), ("(2,1)", "(1,2)"), ("0.33", "\\frac13"), ("x+1", "x-1"), ("5", "50%")],
)
def test_different_values_are_not(answer: str, truth: str) -> None:
    assert score(f"\\boxed{{{answer}}}", truth) == 0


def test_the_last_box_counts() -> None:
    assert score("\\boxed{1}, no: \\boxed{\\frac{1}{2}}", "0.5") == 1
    assert score("\\boxed{2}, no: \\boxed{1}", "2") == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\\boxed{a} \\boxed{{b}}", "{b}"),
        ("\\boxed{\\{1,2\\}}", "\\{1,2\\}"),
        ("\\boxed{\\boxed{5}}", "5"),
        ("\\boxed{1} \\boxed{2", "1"),
        ("}\\fbox {7}", "7"),
        ("{\\boxed{3}", "3"),
        ("boxed{4}", None),
        ("", None),
    ],
)
def test_boxes_are_balanced(text: str, expected: str | None) -> None:
    assert last_boxed(text) == expected


def test_anywhere_is_for_answers_without_a_box() -> None:
    assert score("The answer is 42.", "42", "any") == 1
    assert score("about 50%", "0.5", "any") == 1
    assert score("about 50%", "0.5%", "any") == 0
    assert score("It is 41 or \\boxed{42}", "42", "any") == 1
    assert score("The answer is 42.", "42") == 0


@pytest.mark.parametrize("extract", ["boxed", "any"])
@pytest.mark.parametrize(
    "response",
    [
        "",
        "no idea",
        "\\boxed{}",
        "\\boxed{",
        "\\boxed{???}",
        "\\boxed{9^{9^{9^9}}}",
        "\\boxed{100000000!}",
        "\\boxed{" * 10_000,
        "\\boxed{" + "(" * 5000 + "}",
        "\\boxed{" + "x^" * 500 + "2}",
        "\\boxed{" + "9" * 50_000 + "}",
        "1 " * 50_000,
        "\\boxed{∞ ≠ 四十三}",
        "\ud800",
    ],
)
def test_silly_responses_are_wrong_at_once(response: str, extract: str) -> None:
    score("\\boxed{1}", "1")  # imports
    start = time.monotonic()
    assert score(response, "42", extract) == 0
    assert time.monotonic() - start < 20


@pytest.mark.parametrize("truth", ["", "  ", "???", "$t(0,4]$", None, ["1", ""], []])
def test_a_ground_truth_that_is_no_mathematics_raises(truth: Any) -> None:
    with pytest.raises(ValueError, match="ground truth: given"):
        score("\\boxed{1}", truth)


def test_an_unknown_place_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="extract: given 'box', allowed: boxed, any"):
        math(extract="box")


@settings(deadline=None)
@given(st.integers(-(10**9), 10**9), st.integers(1, 999))
def test_a_fraction_equals_itself_in_any_writing(numerator: int, denominator: int) -> None:
    plain, latex = f"{numerator}/{denominator}", f"\\frac{{{numerator}}}{{{denominator}}}"
    assert score(f"\\boxed{{{latex}}}", plain) == score(f"\\boxed{{{plain}}}", latex) == 1
    assert score(f"\\boxed{{{latex}}}", f"{numerator + 1}/{denominator}") == 0


@pytest.mark.parametrize("name", ["test/math/math.json", "test/math/aime.json", "test/math/amc.json"])
def test_real_ground_truths_equal_themselves(name: str) -> None:
    scored = math()
    answers = [row["answer"] for row in real_json(f"deepscaler_rllm/{name}")[:200]]
    wrong = [answer for answer in answers if scored([], f"Hence \\boxed{{{answer}}}.", answer, {}) != 1]
    assert wrong == []


def test_real_word_problems_as_their_authors_answer_them() -> None:
    lines = real_file("gsm8k/test.jsonl").read_text(encoding="utf-8").splitlines()[:200]
    solutions = [json.loads(line)["answer"] for line in lines]
    scored = math(extract="any")
    truths = [solution.rpartition("#### ")[2] for solution in solutions]
    assert [t for s, t in zip(solutions, truths, strict=True) if scored([], s, t, {}) != 1] == []
