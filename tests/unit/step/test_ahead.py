"""Rollouts of later steps: by which weights, planned when, kept by what, and what a fault makes of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mrpo.budget.uids import uid_content
from mrpo.checkpoint.manifest import CheckpointError
from mrpo.config.controller import Attempt
from mrpo.record.run_folder import RunFolder
from mrpo.step import ahead, sampling
from mrpo.step.parts import Step
from mrpo.step.step import run_step

from .faulty_seam import FaultySeam
from .test_run import essence, newest, train
from .test_step import PROMPTS, N, parts

pytestmark = pytest.mark.unit

STEPS = 6


@pytest.fixture(autouse=True)
def looked_after_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "TEND_SECONDS", 0.001)


def steps_of(path: Path, seam: FaultySeam, by: int, **sections: Any) -> RunFolder:
    return train(path, seam, rollout={"ahead": by}, **sections)


@pytest.mark.parametrize("by", [0, 1, 2, 3])
@pytest.mark.parametrize("mini_batches", [1, 2])
def test_rollouts_are_of_weights_as_old_as_asked_for(by: int, mini_batches: int, tmp_path: Path) -> None:
    seam = FaultySeam(STEPS, mini_batches)
    folder = steps_of(tmp_path, seam, by, budget={"rollouts_per_prompt": N})
    for step in range(1, STEPS + 1):
        version = max(0, step - 1 - by)
        rows = folder.read_rollouts(step)
        assert len(rows) == PROMPTS * N
        assert {tuple(row["versions"]) for row in rows} == {(mini_batches * version, mini_batches * version)}
        assert seam.sampled_by[step] == [mini_batches * version]


@pytest.mark.parametrize("by", [1, 2])
def test_each_prompt_is_trained_on_once_in_the_order_of_the_data(by: int, tmp_path: Path) -> None:
    on_policy = steps_of(tmp_path / "0", FaultySeam(STEPS), 0, budget={"rollouts_per_prompt": N})
    before_their_turn = steps_of(tmp_path / "1", FaultySeam(STEPS), by, budget={"rollouts_per_prompt": N})
    for step in range(1, STEPS + 1):
        prompts = [{row["uid"] for row in folder.read_rollouts(step)} for folder in (on_policy, before_their_turn)]
        assert prompts[0] == prompts[1]


def test_the_next_steps_prompts_are_with_the_engines_while_the_ranks_train(tmp_path: Path) -> None:
    seam = FaultySeam(STEPS)
    run = parts(seam, tmp_path, rollout={"ahead": 1}, budget={"rollouts_per_prompt": N})
    run_step(1, run)
    learning = ["spread", "old_log_probs", "read", "write", "update_actor"]
    assert seam.calls == [*["next_prompts", "submit"] * 2, "wait", *learning, "wait", "update_weights", "finish"]
    run_step(2, run)
    assert seam.calls == ["next_prompts", "submit", *learning, "wait", "update_weights", "finish"]


def test_the_last_step_asks_for_no_prompts(tmp_path: Path) -> None:
    seam = FaultySeam(STEPS)
    steps_of(tmp_path, seam, 2, budget={"rollouts_per_prompt": N})
    assert seam.fetched == STEPS * PROMPTS
    assert "submit" not in seam.calls


def test_a_steps_plan_knows_what_had_come_in_when_its_prompts_went_out(tmp_path: Path) -> None:
    """A pass over the 16 prompts takes four steps: what a prompt earned counts from its second turn on, and with one
    step ahead its plan is made before the step in between is trained on."""
    seam = FaultySeam(STEPS)
    run = parts(seam, tmp_path, rollout={"ahead": 1})
    for number in range(1, STEPS + 1):
        run_step(number, run)
        planned = run.under_way.get(number + 1)
        known = [] if planned is None else [stats.trials_G[0] > 0 for stats in planned.plan.stats.values()]
        assert known == [number + 1 > 4] * len(known)
        assert planned is None or sum(planned.plan.n_by_uid.values()) == PROMPTS * N
    run.writer.settle()


@pytest.mark.parametrize("failing", ["failing_groups", "failing_ahead"])
def test_failed_groups_are_replaced_in_the_step_that_they_belong_to(failing: str, tmp_path: Path) -> None:
    seam = FaultySeam(STEPS)
    setattr(seam, failing, 3)
    seam.in_update = lambda: until(lambda: seam.failing_ahead == 0)
    folder = steps_of(tmp_path, seam, 1)
    assert seam.fetched == STEPS * PROMPTS + 3
    assert [len(folder.read_rollouts(step)) for step in range(1, STEPS + 1)] == [PROMPTS * N] * STEPS


def test_groups_that_keep_failing_while_the_ranks_train_end_the_run(tmp_path: Path) -> None:
    seam = FaultySeam(STEPS)
    seam.failing_ahead = 10_000
    seam.in_update = lambda: until(lambda: seam.failing_ahead <= 10_000 - 29)
    with pytest.raises(RuntimeError, match="step 2 asked for 33 prompts"):
        steps_of(tmp_path, seam, 1)


def until(reached: Callable[[], bool], seconds: float = 60.0) -> None:
    """The ranks are at work until then."""
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def stop(path: Path, at: int) -> Callable[[int], None]:
    return lambda step: (path / "stop").touch() if step == at else None


@pytest.mark.parametrize("by", [1, 2])
@pytest.mark.parametrize("at", [1, 2, 4])
def test_a_run_that_is_stopped_goes_on_as_if_it_had_not_been(by: int, at: int, tmp_path: Path) -> None:
    undisturbed = steps_of(tmp_path / "undisturbed", FaultySeam(STEPS), by)
    seam = FaultySeam(STEPS)
    seam.in_wait = stop(tmp_path / "stopped", at)
    folder = steps_of(tmp_path / "stopped", seam, by)
    folder.stop_file.unlink()
    if at == 1:  # nothing is saved: it stopped in the first wait of all
        train(folder.path, FaultySeam(STEPS), Attempt(number=2), rollout={"ahead": by})
    else:
        attempt = newest(folder.path, 2)
        assert attempt.start_step == at
        train(folder.path, FaultySeam(STEPS), attempt, rollout={"ahead": by})
    assert essence(folder) == essence(undisturbed)


@pytest.mark.parametrize("killed_in", [3, 4, 5])
def test_a_run_that_is_killed_goes_on_with_the_rollouts_that_were_saved(killed_in: int, tmp_path: Path) -> None:
    undisturbed = steps_of(tmp_path / "undisturbed", FaultySeam(STEPS), 1)

    class Killed(BaseException):
        pass

    def kill(step: int) -> None:
        if step == killed_in:
            raise Killed

    seam = FaultySeam(STEPS)
    seam.in_wait = kill
    with pytest.raises(Killed):
        steps_of(tmp_path / "killed", seam, 1)
    attempt = newest(tmp_path / "killed", 2)
    resumed = FaultySeam(STEPS)
    folder = train(tmp_path / "killed", resumed, attempt, rollout={"ahead": 1})
    assert attempt.start_step + 1 not in resumed.sampled_by
    metrics, rollouts = essence(folder)
    last = {record["step"]: record for record in metrics}
    assert (list(last.values()), rollouts) == essence(undisturbed)


def test_more_or_fewer_steps_ahead_go_on_from_what_there_is(tmp_path: Path) -> None:
    for before, after in ((2, 0), (0, 2), (1, 2), (2, 1)):
        path = tmp_path / f"{before}{after}"
        train(path, FaultySeam(2), rollout={"ahead": before}, trainer={"total_training_steps": 2})
        seam = FaultySeam(STEPS)
        seam.in_wait = stop(path, 3)
        train(path, FaultySeam(STEPS), newest(path, 2), rollout={"ahead": after})
        assert RunFolder(path).rollout_steps() == list(range(1, STEPS + 1))
        uids = [row["uid"] for step in range(1, STEPS + 1) for row in RunFolder(path).read_rollouts(step)]
        assert len({uid_content(uid) for uid in uids}) == 16
        assert len(set(uids)) == STEPS * PROMPTS


def test_what_is_not_complete_is_not_saved() -> None:
    with pytest.raises(RuntimeError, match="step 3 can't hold step 4, of whose 1 mini-batches 0 are complete"):
        ahead.remember(3, {4: Step(4)}, 1)
    with pytest.raises(RuntimeError, match="step 3 can't hold step 3"):
        ahead.remember(3, {3: Step(3)}, 1)


def test_a_checkpoint_of_other_mini_batches_is_refused(tmp_path: Path) -> None:
    seam = FaultySeam(STEPS)
    run = parts(seam, tmp_path, rollout={"ahead": 1})
    run_step(1, run)
    ahead.save(tmp_path / "saved", ahead.remember(1, run.under_way, 1), seam)
    with pytest.raises(CheckpointError, match="step 2 has not 2 mini-batches"):
        ahead.load(tmp_path / "saved", FaultySeam(STEPS, mini_batches=2))
