"""docs/one_step.py: it runs, the rewards rise, and the budget goes to the prompts that are open."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def one_step() -> dict[str, Any]:
    return runpy.run_path(str(Path(__file__).parents[2] / "docs" / "one_step.py"))


@pytest.mark.parametrize("seed", [0, 1])
def test_every_reward_rises_and_rollouts_move_to_uncertain_prompts(one_step: dict[str, Any], seed: int) -> None:
    log = one_step["train"](seed=seed)
    first, last = log[0], log[-1]
    assert all(after > before + 0.2 for before, after in zip(first.rewards_K, last.rewards_K, strict=True))
    assert last.rewards_K[0] > 0.9  # right answers
    assert first.rollouts_open == first.rollouts_other  # nothing is known before the first step
    assert log[4].rollouts_open > 4 * log[4].rollouts_other
    assert last.rollouts_open < log[4].rollouts_open  # what has been learned is less uncertain


def test_table_has_a_column_per_reward(one_step: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    one_step["main"]()
    title, *rows = capsys.readouterr().out.splitlines()
    assert title.split()[:4] == ["step", "correct", "format", "short"]
    assert rows[-1].split()[0] == "40"
