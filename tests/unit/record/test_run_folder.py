"""A run's folder: made once, found again, read back as written."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from mrpo.errors import ConfigError
from mrpo.record import jsonl
from mrpo.record.run_folder import RunFolder

from ..observe.runs import new_run, rollouts_of

pytestmark = pytest.mark.unit


def test_runs_started_in_the_same_second_get_their_own_folders(tmp_path: Path) -> None:
    folders = [new_run(tmp_path) for _ in range(5)]
    assert len({folder.path for folder in folders}) == 5
    assert all(folder.config.read_text() == "recipe: quickstart\n" for folder in folders)


def test_latest_is_the_newest_run_and_survives_a_move_of_the_runs(tmp_path: Path) -> None:
    new_run(tmp_path)
    newest = new_run(tmp_path)
    (tmp_path / "runs").rename(tmp_path / "elsewhere")
    assert RunFolder.find(runs=tmp_path / "elsewhere").name == newest.name


def test_recipe_name_cannot_leave_the_folder_of_runs(tmp_path: Path) -> None:
    folder = RunFolder.create("../../a b/c", "", runs=tmp_path / "runs")
    assert folder.path.parent == tmp_path / "runs"
    assert folder.path.name.startswith("a-b-c-")


def test_run_is_found_by_name_and_by_path(tmp_path: Path) -> None:
    folder = new_run(tmp_path)
    new_run(tmp_path)
    for given in (folder.path.name, str(folder.path)):
        assert RunFolder.find(given, runs=tmp_path / "runs").name == folder.name


def test_unknown_run_is_reported_with_the_nearest_name(tmp_path: Path) -> None:
    folder = new_run(tmp_path)
    with pytest.raises(ConfigError, match=f"Did you mean '{folder.name}'"):
        RunFolder.find(folder.name[:-1] + "x", runs=tmp_path / "runs")


def test_no_run_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="none given"):
        RunFolder.find(runs=tmp_path / "runs")


def test_any_other_folder_is_not_taken_for_a_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a run's folder"):
        RunFolder.find(str(tmp_path))


def test_metrics_and_events_come_back(tmp_path: Path) -> None:
    folder = new_run(tmp_path)
    folder.announce(20, ["a", "b"])
    folder.event("rollout", 1, "16 prompts")
    folder.write_metrics(1, {"reward/a/mean": 0.5, "train/entropy": float("nan")})
    plan, rollout = folder.events()
    assert (plan["phase"], plan["total_steps"], plan["rewards"]) == ("plan", 20, ["a", "b"])
    assert (rollout["phase"], rollout["step"], rollout["detail"]) == ("rollout", 1, "16 prompts")
    (line,) = folder.metrics()
    assert (line["step"], line["reward/a/mean"], line["train/entropy"]) == (1, 0.5, None)
    assert plan["time"] <= rollout["time"] <= line["time"]


def test_step_that_ran_again_counts_once_as_it_ran_last(tmp_path: Path) -> None:
    folder = new_run(tmp_path)
    for step, value in ((1, 0.1), (2, 0.2), (3, 0.3), (2, 0.8)):
        folder.write_metrics(step, {"reward/a/mean": value})
        folder.write_rollouts(step, rollouts_of(step)[: 1 if value == 0.8 else 8])
    assert [(line["step"], line["reward/a/mean"]) for line in folder.metrics()] == [(1, 0.1), (2, 0.8), (3, 0.3)]
    assert [len(folder.read_rollouts(step)) for step in folder.rollout_steps()] == [8, 1, 8]


def test_rollouts_come_back_with_their_step_and_steps_are_in_numeric_order(tmp_path: Path) -> None:
    folder = new_run(tmp_path)
    for step in (10, 9, 100):
        folder.write_rollouts(step, rollouts_of(step))
    assert folder.rollout_steps() == [9, 10, 100]
    assert folder.read_rollouts(10) == [{"step": 10, **row} for row in rollouts_of(10)]


def test_metric_named_like_a_key_of_the_line_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="time"):
        new_run(tmp_path).write_metrics(1, {"time": 3.0})


def test_broken_metrics_line_names_file_and_line(tmp_path: Path) -> None:
    folder = new_run(tmp_path)
    folder.write_metrics(1, {})
    with open(folder.metrics_file, "a") as stream:
        stream.write("oops\n")
    with pytest.raises(jsonl.CorruptLineError, match=r"metrics\.jsonl:2: "):
        folder.metrics()


def test_folder_can_be_sent_to_another_process(tmp_path: Path) -> None:
    folder = new_run(tmp_path)
    pickle.loads(pickle.dumps(folder)).write_metrics(1, {"reward/a/mean": 1.0})
    assert len(folder.metrics()) == 1


def test_validations_between_the_first_and_the_newest_are_dropped(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for step in range(0, 12, 2):
        folder.write_validation(step, [{"uid": "a", "sample": 0, "rewards": {}}])
        folder.drop_validations(keep=2)
    assert folder.validation_steps() == [0, 8, 10]
