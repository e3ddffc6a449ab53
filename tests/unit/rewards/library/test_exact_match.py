"""Character for character, but for what the options let pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mrpo.rewards.library.exact_match import exact_match

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("response", "truth", "options", "expected"),
    [
        ("Paris", "Paris", {}, 1),
        (" Paris\n", "Paris", {}, 1),
        (" Paris", "Paris", {"strip": False}, 0),
        ("paris", "Paris", {}, 0),
        ("STRASSE", "Straße", {"lower": True}, 1),
        ("", "Paris", {}, 0),
        ("", "", {}, 1),
        ("42", 42, {}, 1),
        ("Rome", ["Paris", "Rome"], {}, 1),
        ("Rome", np.array(["Paris", "Rome"], dtype=object), {}, 1),
        ("I think <answer> Paris </answer>", "Paris", {"tag": "answer"}, 1),
        ("<answer>Rome</answer> no, <answer>Paris</answer>", "Paris", {"tag": "answer"}, 1),
        ("Paris", "Paris", {"tag": "answer"}, 0),
        ("<answer>Paris", "Paris", {"tag": "answer"}, 0),
        ("</answer>Paris<answer>", "Paris", {"tag": "answer"}, 0),
    ],
)
def test_it_compares(response: str, truth: Any, options: dict[str, Any], expected: float) -> None:
    assert exact_match([], response, truth, {}, **options) == expected


@pytest.mark.parametrize("truth", [None, {"a": 1}, [None], [], [["a"]]])
def test_what_is_no_answer_raises(truth: Any) -> None:
    with pytest.raises(ValueError, match="ground truth: given"):
        exact_match([], "a", truth, {})
