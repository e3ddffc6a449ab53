"""Weights that don't wait for rollouts under way: these are of which versions, and what a kill or stop makes of it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mrpo.budget.uids import uid_content
from mrpo.checkpoint.manifest import CheckpointError
from mrpo.checkpoint.plain import load_state
from mrpo.checkpoint.store import CheckpointStore
from mrpo.record.run_folder import RunFolder
from mrpo.step import sampling
from mrpo.step.seam import Commit
from mrpo.step.step import idle_seconds, run_step

from .faulty_seam import FaultySeam
from .test_ahead import STEPS, stop
from .test_run import newest, train
from .test_step import PROMPTS, N, parts

pytestmark = pytest.mark.unit

SLOW: dict[str, Callable[[int], bool]] = {"all": lambda step: True, "odd": lambda step: step % 2 == 1}
"""Steps whose rollouts are still under way when an earlier step ends."""


@pytest.fixture(autouse=True)
def looked_after_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "TEND_SECONDS", 0.001)


def going_on(by: int) -> dict[str, Any]:
    return {"rollout": {"ahead": by, "on_sync": "continue"}, "checkpoint": {"every": 1, "keep_last": 9}}


def slow_seam(which: str = "all") -> FaultySeam:
    seam = FaultySeam(STEPS)
    seam.slow, seam.in_update = SLOW[which], lambda: until_tended(seam)
    return seam


def until_tended(seam: FaultySeam) -> None:
    """The ranks are at work for long enough that the rollouts of the steps ahead are looked after: which of them are
    complete at the step's end, and so by whose weights they are, mustn't depend on how busy the machine is."""
    if any(queue and not seam.slow(step) for step, queue in seam.queue.items() if step > seam.step):
        assert seam.tended.wait(60)


def groups(folder: RunFolder) -> list[Counter[str]]:
    """The rollouts of each prompt that was trained on, by step."""
    return [Counter(row["uid"] for row in folder.read_rollouts(step)) for step in range(1, STEPS + 1)]


class Killed(BaseException):
    pass


def kill(seam: FaultySeam, step: int) -> None:
    """As the ranks are at work in ``step``."""

    def killed() -> None:
        if seam.step == step:
            raise Killed
        until_tended(seam)

    seam.in_update = killed


@pytest.mark.parametrize("by", [1, 2])
def test_a_rollout_is_of_all_versions_that_came_while_it_was_under_way(by: int, tmp_path: Path) -> None:
    folder = train(tmp_path, slow_seam(), **going_on(by), budget={"rollouts_per_prompt": N})
    for step in range(1, STEPS + 1):
        versions = {tuple(row["versions"]) for row in folder.read_rollouts(step)}
        assert versions == {(max(0, step - 1 - by), step - 1)}


def test_rollouts_that_were_complete_before_are_of_one_version(tmp_path: Path) -> None:
    folder = train(tmp_path, slow_seam("odd"), **going_on(1), budget={"rollouts_per_prompt": N})
    versions = [{tuple(row["versions"]) for row in folder.read_rollouts(step)} for step in range(2, STEPS + 1)]
    assert versions == [{(0, 0)}, {(1, 2)}, {(2, 2)}, {(3, 4)}, {(4, 4)}]


def test_the_weights_go_out_without_a_wait_and_the_next_step_waits_for_its_rollouts(tmp_path: Path) -> None:
    run = parts(seam := slow_seam(), tmp_path, **going_on(1))
    learning = ["spread", "old_log_probs", "read", "write", "update_actor"]
    for number in (1, 2):
        run_step(number, run)
        began = ["next_prompts", "submit"] * (2 if number == 1 else 1)
        assert seam.calls == [*began, "wait", *learning, "update_weights", "finish"]
    run.writer.settle()


@pytest.mark.parametrize("which", SLOW)
@pytest.mark.parametrize("by", [1, 2, 3])
def test_after_a_kill_every_prompt_has_its_turn_once_with_the_rollouts_that_were_planned(
    which: str, by: int, tmp_path: Path
) -> None:
    undisturbed = groups(train(tmp_path / "undisturbed", slow_seam(which), **going_on(by)))
    for step in (2, 3, 5):
        kill(killed := slow_seam(which), step)
        path = tmp_path / f"killed in {step}"
        with pytest.raises(Killed):
            train(path, killed, **going_on(by))
        again, attempt = slow_seam(which), newest(path, 2)
        assert attempt.start_step == step - 1
        assert groups(train(path, again, attempt, **going_on(by))) == undisturbed
        for number in again.planned.keys() & set(range(step, step + by)):
            assert again.planned[number] == killed.planned[number]
        complete = {n for n in range(step, min(step + by, STEPS + 1)) if not SLOW[which](n)}
        assert not complete & again.planned.keys()  # they were saved
    assert sum(undisturbed, Counter()).total() == STEPS * PROMPTS * N
    assert all(len(prompts) == PROMPTS for prompts in undisturbed)


def test_a_run_that_is_killed_twice_goes_on_from_what_it_had_taken_up(tmp_path: Path) -> None:
    undisturbed = groups(train(tmp_path / "undisturbed", slow_seam(), **going_on(3)))
    attempt = None
    for number, step in enumerate((2, 3, 3, 4), 2):
        kill(seam := slow_seam(), step)
        with pytest.raises(Killed):
            train(tmp_path / "killed", seam, attempt, **going_on(3))
        attempt = newest(tmp_path / "killed", number)
    assert groups(train(tmp_path / "killed", slow_seam(), attempt, **going_on(3))) == undisturbed


@pytest.mark.parametrize("at", [2, 4])
def test_a_stop_does_not_wait_and_saves_the_step_as_it_was_before_its_groups_were_replaced(
    at: int, tmp_path: Path
) -> None:
    """The replacement's prompt is taken from the data after the boundary, so that it is fetched again as if never."""
    undisturbed = groups(train(tmp_path / "undisturbed", slow_seam(), **going_on(2)))
    path, seam = tmp_path / "stopped", slow_seam()
    seam.in_wait = stop(path, at)
    sections = going_on(2) | {"checkpoint": {"every": 100, "keep_last": 9}}
    wait = seam.wait

    def wait_and_replace(step: int, prompts: int, refill: Callable[[int], None], commit: Commit | None) -> Any:
        if step == at:
            del seam.queue[step][next(iter(seam.queue[step]))]
            refill(1)
        return wait(step, prompts, refill, commit)

    seam.wait = wait_and_replace  # type: ignore[method-assign]
    folder = train(path, seam, **sections)
    folder.stop_file.unlink()
    attempt = newest(path, 2)
    assert attempt.start_step == at - 1
    assert groups(train(path, slow_seam(), attempt, **sections)) == undisturbed


@pytest.mark.parametrize(("before", "after"), [((2, "continue"), (2, "finish")), ((2, "continue"), (0, "finish"))])
def test_what_was_under_way_is_trained_on_by_a_run_that_finishes_its_rollouts(
    before: tuple[int, str], after: tuple[int, str], tmp_path: Path
) -> None:
    sections: list[dict[str, Any]] = [
        {"rollout": {"ahead": by, "on_sync": on_sync}, "checkpoint": {"every": 1, "keep_last": 9}}
        for by, on_sync in (before, after)
    ]
    kill(seam := slow_seam(), 3)
    with pytest.raises(Killed):
        train(tmp_path, seam, **sections[0])
    folder = train(tmp_path, slow_seam(), newest(tmp_path, 2), **sections[1])
    uids = [uid for step in groups(folder) for uid in step]
    assert len(uids) == len(set(uids)) == STEPS * PROMPTS
    assert [len({uid_content(uid) for uid in uids[i : i + 16]}) for i in (0, 8)] == [16, 16]


def test_prompts_that_the_data_no_longer_has_are_an_error(tmp_path: Path) -> None:
    kill(seam := slow_seam(), 3)
    with pytest.raises(Killed):
        train(tmp_path, seam, **going_on(1))
    other = slow_seam()
    other.sources = ["another source"]
    with pytest.raises(CheckpointError, match="4 prompts of step 3 and later were being sampled"):
        train(tmp_path, other, newest(tmp_path, 2), **going_on(1))


def test_a_checkpoint_has_the_plan_of_what_is_under_way_and_the_rows_of_what_is_complete(tmp_path: Path) -> None:
    folder = train(tmp_path, slow_seam("odd"), **going_on(2))
    rollouts = CheckpointStore(folder.checkpoints, folder.scratch).load(2).folder / "rollouts"
    assert {file.name for file in rollouts.iterdir()} == {"3.npz", "4.npz", "4-0.npz"}
    states = [load_state(rollouts / f"{step}.npz") for step in (3, 4)]
    assert [(state["began_at"] or {}).get("prompts_fetched") for state in states] == [2 * PROMPTS, None]


def test_engines_with_rollouts_to_the_end_of_a_step_have_not_been_idle() -> None:
    assert idle_seconds({"step": 10.0}, [103.0, math.inf], 100.0)["time/engine_idle"] == 0.0
