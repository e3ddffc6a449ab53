"""``budget.method=pilot_commit`` in the loop: the rest of a step is divided once all of its pilots are there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mrpo.record.run_folder import RunFolder
from mrpo.step import sampling
from mrpo.step.step import run_step

from .faulty_seam import FaultySeam
from .test_ahead import STEPS, stop, until
from .test_on_sync import Killed, groups, kill
from .test_run import essence, newest, train
from .test_step import PROMPTS, N, one_step, parts

pytestmark = pytest.mark.unit

LOW, HIGH = 4, 16
BUDGET: dict[str, Any] = {"method": "pilot_commit", "reward": "correct", "low": LOW, "high": HIGH}
BUDGET |= {"rollouts_per_prompt": N}
TOTAL = PROMPTS * N


@pytest.fixture(autouse=True)
def looked_after_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "TEND_SECONDS", 0.001)


def sections(by: int = 0, on_sync: str = "finish") -> dict[str, Any]:
    rollout = {"ahead": by, "on_sync": on_sync} if by else {}
    return {"rollout": rollout, "checkpoint": {"every": 1, "keep_last": 9}, "budget": BUDGET}


def carried_out(seam: FaultySeam, folder: RunFolder, step: int) -> None:
    """What was sampled is what the pilots say. One that replaces a prompt with no more than a pilot has no more."""
    for uid, n in Counter(row["uid"] for row in folder.read_rollouts(step)).items():
        division, variance = next((i, of[uid]) for i, of in enumerate(seam.pilots[step]) if uid in of)
        assert variance >= 0.1 or n == LOW
        assert n > LOW or variance < 0.1 or division > 0


def test_a_step_s_rest_goes_to_the_prompts_that_vary_and_its_total_is_exact(tmp_path: Path) -> None:
    seam = FaultySeam(total_steps=1)
    seam.serve(0)
    metrics = one_step(parts(seam, tmp_path, budget=BUDGET))
    (variances,) = seam.pilots[1]
    assert list(seam.planned[1].values()) == [LOW] * PROMPTS
    found = Counter(row["uid"] for row in RunFolder(tmp_path).read_rollouts(1))
    varies = sum(variance >= 0.1 for variance in variances.values())
    assert 0 < varies < PROMPTS
    assert found.total() == TOTAL
    carried_out(seam, RunFolder(tmp_path), 1)
    assert metrics["budget/committed"] == varies / PROMPTS
    assert metrics["budget/unspent"] == 0
    assert metrics["rollout/incomplete_groups"] == 0


def test_what_no_prompt_is_to_get_is_not_sampled_and_counted(tmp_path: Path) -> None:
    seam = FaultySeam(total_steps=1)
    seam.constant = True
    metrics = one_step(parts(seam, tmp_path, budget=BUDGET))
    assert metrics["budget/unspent"] == TOTAL - PROMPTS * LOW
    assert metrics["budget/committed"] == 0
    assert len(RunFolder(tmp_path).read_rollouts(1)) == PROMPTS * LOW


@pytest.mark.parametrize("fault", ["failing_groups", "failing_after_pilots"])
@pytest.mark.parametrize("by", [0, 1])
def test_a_failed_prompt_s_rollouts_go_to_the_one_that_replaces_it(fault: str, by: int, tmp_path: Path) -> None:
    seam = FaultySeam(STEPS)
    setattr(seam, fault, 2)
    folder = train(tmp_path, seam, **sections(by))
    assert seam.fetched == STEPS * PROMPTS + 2
    for step, line in enumerate(folder.metrics(), 1):
        assert len(folder.read_rollouts(step)) == TOTAL - line["budget/unspent"]
        carried_out(seam, folder, step)
    assert len(seam.pilots[1]) == (1 if fault == "failing_groups" else 3)


def test_pilots_of_the_step_ahead_are_gone_on_with_while_the_ranks_train(tmp_path: Path) -> None:
    seam = FaultySeam(STEPS)
    run = parts(seam, tmp_path, rollout={"ahead": 1}, budget=BUDGET)
    seam.in_update = lambda: until(lambda: len(seam.pilots[2]) == 1)
    run_step(1, run)
    run.writer.settle()
    assert sum(run.under_way[2].plan.n_by_uid.values()) == TOTAL


@pytest.mark.parametrize("by", [0, 1, 2])
@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_run_that_was_interrupted_is_the_one_that_was_not(how: str, by: int, tmp_path: Path) -> None:
    undisturbed = train(tmp_path / "undisturbed", FaultySeam(STEPS), **sections(by))
    path, seam = tmp_path / how, FaultySeam(STEPS)
    if how == "killed":
        kill(seam, 3)
        with pytest.raises(Killed):
            train(path, seam, **sections(by))
    else:
        seam.in_wait = stop(path, 3)
        train(path, seam, **sections(by)).stop_file.unlink()
    again = train(path, FaultySeam(STEPS), newest(path, 2), **sections(by))
    assert essence(again) == essence(undisturbed)


@pytest.mark.parametrize("slow", [lambda step: True, lambda step: step % 2 == 1], ids=["all", "odd"])
def test_what_was_under_way_begins_again_with_its_pilots(slow: Callable[[int], bool], tmp_path: Path) -> None:
    """Texts may differ then, and with them who varies; prompts, pilots and totals don't."""
    seam = FaultySeam(STEPS)
    seam.slow = slow
    kill(seam, 3)
    with pytest.raises(Killed):
        train(tmp_path, seam, **sections(2, "continue"))
    again = FaultySeam(STEPS)
    again.slow = slow
    folder = train(tmp_path, again, newest(tmp_path, 2), **sections(2, "continue"))
    assert all(n == LOW for of_step in again.planned.values() for n in of_step.values())
    assert all(len(prompts) == PROMPTS for prompts in groups(folder))
    assert len({uid for prompts in groups(folder) for uid in prompts}) == STEPS * PROMPTS
    for step, line in enumerate(folder.metrics(), 1):
        assert groups(folder)[step - 1].total() == TOTAL - line["budget/unspent"]
