"""The first and the last validation side by side, in the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mrpo.observe.before_after import PROMPTS, before_after
from mrpo.record.run_folder import RunFolder

from .pages import page_of
from .runs import recorded_run

pytestmark = pytest.mark.unit


def validated(uid: str, response: str, correct: float | None, **more: Any) -> dict[str, Any]:
    rewards = {"correct": correct, "short": 0.5}
    row = {"uid": uid, "sample": 0, "data_source": "math", "prompt": f"ask {uid}", "ground_truth": f"truth of {uid}"}
    return row | {"response": response, "rewards": rewards, "tokens": 5} | more


def a_run(tmp_path: Path, steps: dict[int, list[dict[str, Any]]]) -> RunFolder:
    folder = recorded_run(tmp_path, steps=2)
    for step, rows in steps.items():
        folder.write_validation(step, rows)
    return folder


def test_the_page_shows_both_responses_with_their_rewards_and_the_change(tmp_path: Path) -> None:
    first = [validated(f"{n}", f"<b>old {n}</b>", 0.0) for n in range(4)]
    last = [validated(f"{n}", f"new {n}", float(n > 0), tokens=3) for n in range(4)]
    text = page_of(a_run(tmp_path, {0: first, 1: [validated("0", "between", 0.5)], 2: last})).text
    assert "Before and after" in text
    assert "correct0.0000.750+0.750[+0.250, +1.000]" in text
    assert "response length5.0003.000-2.000[-2.000, -2.000]" in text
    for n in range(4):
        place = text.index(f"ask {n}")
        old, new = text.index(f"<b>old {n}</b>"), text.index(f"new {n}")
        assert place < text.index(f"truth of {n}") < old < new
        assert f"correct {float(n > 0):.3f}" in text[old:new]  # beside the newer response, before its text
    assert "between" not in text


def test_a_reward_that_failed_shows_a_dash(tmp_path: Path) -> None:
    text = page_of(a_run(tmp_path, {0: [validated("a", "x", None)], 2: [validated("a", "y", 1.0)]})).text
    assert "correct –1.000–" not in text
    assert "correct–1.000–" in text  # in the table: no mean before, so no change
    assert "correct –" in text  # beside the response


def test_prompts_are_the_same_whatever_came_out_and_a_handful(tmp_path: Path) -> None:
    rows = [validated(f"{n:02}", "x", 1.0) for n in range(20)]
    found = before_after(a_run(tmp_path, {0: rows, 2: rows[::-1]}))
    assert found is not None
    assert [pair.first["uid"] for pair in found.pairs] == [f"{n:02}" for n in range(PROMPTS)]
    assert all(pair.first["uid"] == pair.last["uid"] for pair in found.pairs)


def test_one_validation_or_others_prompts_are_not_compared(tmp_path: Path) -> None:
    assert before_after(a_run(tmp_path / "none", {})) is None
    assert before_after(a_run(tmp_path / "one", {2: [validated("a", "x", 1.0)]})) is None
    other = a_run(tmp_path / "other", {0: [validated("a", "x", 1.0)], 2: [validated("b", "x", 1.0)]})
    assert before_after(other) is None
    assert "Before and after" not in page_of(other).text


def test_data_sources_are_told_apart(tmp_path: Path) -> None:
    rows = [validated("a", "x", 1.0), validated("b", "x", 0.0, data_source="code")]
    text = page_of(a_run(tmp_path, {0: rows, 2: rows})).text
    assert "math: correct1.0001.000" in text
    assert "code: correct0.0000.000" in text
