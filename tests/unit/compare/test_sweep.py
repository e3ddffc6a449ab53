"""Running a grid: what is run, what isn't run again, and what a cell's end does to the others."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from mrpo.compare import sweep
from mrpo.compare.equal import EqualBudget
from mrpo.compare.find import find_runs
from mrpo.compare.grid import cells_of
from mrpo.compare.sweep import Outcome, Planned
from mrpo.errors import ConfigError, MrpoError
from mrpo.exit_code import ExitCode

pytestmark = pytest.mark.unit

GRID = ["recipe=quickstart", "seed=0,1"]
STEPS = ["trainer.total_training_steps=3"]
Run = Callable[..., tuple[list[Outcome], list[str]]]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    fake = Path(__file__).with_name("fake_train_with_faults.py")
    monkeypatch.setattr(sweep, "TRAIN", (sys.executable, str(fake), str(tmp_path / "faults")))
    monkeypatch.setattr(sweep, "shared_start", lambda planned, log: nullcontext(False))  # the fake imports nothing
    (tmp_path / "faults").mkdir()
    return tmp_path / "faults"


@pytest.fixture
def run(out: Path, faults: Path) -> Run:
    def run_grid(words: list[str], budget: EqualBudget | None = None) -> tuple[list[Outcome], list[str]]:
        planned, said = sweep.plan(cells_of(words), out, budget), list[str]()
        for one in planned:
            (faults / f"{one.cell.name}.yaml").write_text(one.checked.config.as_yaml())
        outcomes = sweep.run_cells(planned, out, budget, lambda text, passing: None if passing else said.append(text))
        return outcomes, said

    return run_grid


def exit_code(outcomes: list[Outcome], cells: int = 2) -> ExitCode:
    planned: list[Planned] = [None] * cells  # type: ignore[list-item]
    return sweep.require_all_done(outcomes, planned)


def test_a_failing_cell_ends_no_other_and_only_it_is_run_again(run: Run, out: Path, faults: Path) -> None:
    (faults / "seed=0").write_text("fail 2")
    outcomes, _ = run(GRID + STEPS)
    assert [(one.cell, one.code, one.cause) for one in outcomes] == [("seed=0", 1, "out of memory"), ("seed=1", 0, "")]
    with pytest.raises(MrpoError, match=r"1 of 2 cells failed.*\n  seed=0: out of memory"):
        exit_code(outcomes)
    assert [(one.name, one.state) for one in find_runs([str(out)])] == [("seed=0", "failed"), ("seed=1", "done")]
    outcomes, said = run(GRID + STEPS)
    assert exit_code(outcomes) == ExitCode.DONE
    assert "cell 1 of 2, seed=0: goes on" in said
    assert "cell 2 of 2, seed=1: is done already" in said
    assert [one.measures["correct"].tolist() for one in find_runs([str(out)])] == [pytest.approx([0.1, 0.2, 0.3])] * 2


def test_a_killed_cell_goes_on_and_another_setting_is_refused_by_name(run: Run, faults: Path) -> None:
    (faults / "seed=0").write_text("kill 3")
    outcomes, _ = run(["recipe=quickstart", "seed=0,1", *STEPS])
    assert [one.code for one in outcomes] == [128 + 9, 0]
    with pytest.raises(ConfigError, match=r"cell seed=0: .*\n  actor.learning_rate: was 0.0001, is 0.5"):
        run([*GRID, *STEPS, "actor.learning_rate=0.5"])
    with pytest.raises(ConfigError, match=r"cell seed=0: trainer.total_training_steps: given 1, but it has trained 2"):
        run([*GRID, "trainer.total_training_steps=1"])
    outcomes, said = run([*GRID, "trainer.total_training_steps=4"])
    assert exit_code(outcomes) == ExitCode.DONE
    assert [text for text in said if "goes on" in text] == [f"cell {n} of 2, seed={n - 1}: goes on" for n in (1, 2)]


def test_being_asked_to_end_ends_the_grid_and_saves_the_cell(run: Run, faults: Path) -> None:
    (faults / "seed=0").write_text("ask 2")
    outcomes, _ = run(GRID + STEPS)
    assert [(one.cell, one.code) for one in outcomes] == [("seed=0", ExitCode.REQUEUE)]
    assert exit_code(outcomes) == ExitCode.REQUEUE


def test_a_budget_of_tokens_stops_each_cell_once_it_is_used_up(run: Run, out: Path) -> None:
    budget = EqualBudget("tokens", 500)
    outcomes, _ = run(["recipe=quickstart", "seed=1,0"], budget)
    assert exit_code(outcomes) == ExitCode.DONE
    found = find_runs([str(out)])
    assert [one.name for one in found] == ["seed=1", "seed=0"]  # in the grid's order: its first group is the baseline
    assert [one.state for one in found] == ["done", "done"]
    assert all(500 <= one.counts["tokens"][-1] < 10_000 for one in found)
    assert all("is done already" in text for text in run(GRID, budget)[1])
    for other in (None, EqualBudget("seconds", 500), EqualBudget("tokens", 400)):
        with pytest.raises(ConfigError, match=r"--budget: given .* was begun with tokens=500"):
            run(GRID, other)


def test_nothing_is_run_where_one_cell_is_wrong(run: Run, out: Path) -> None:
    with pytest.raises(ConfigError, match=r"cell estimator=gppo: algorithm.estimator: unknown name 'gppo'"):
        run(["recipe=quickstart", "algorithm.estimator=grpo,gppo"])
    assert not out.exists()


def test_equal_rollouts_follow_from_the_batch(out: Path) -> None:
    words = ["recipe=quickstart", "budget.rollouts_per_prompt=4,8"]
    planned = sweep.plan(cells_of(words), out, EqualBudget("rollouts", 1280))
    assert [one.steps for one in planned] == [20, 10]
    with pytest.raises(ConfigError, match=r"cell rollouts_per_prompt=8: .*a multiple of the 128 rollouts .* say 1280"):
        sweep.plan(cells_of(words), out, EqualBudget("rollouts", 1344))


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("budget.filter_groups=total", "cells can't be made equal"),
        ("budget.unit=tokens", "cells can't be made equal"),
        ("trainer.total_training_steps=3", "is decided by --budget"),
    ],
)
def test_what_can_not_be_made_equal_is_refused(out: Path, word: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"cell run: .*{message}"):
        sweep.plan(cells_of(["recipe=quickstart", word]), out, EqualBudget("rollouts", 1280))
