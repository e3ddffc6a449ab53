"""Reading runs of our own and of others, by whatever they left."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mrpo.compare.find import find_runs
from mrpo.errors import ConfigError
from mrpo.evaluation.compare import LENGTH
from tests.unit.compare.runs import SETTINGS, write_run

pytestmark = pytest.mark.unit


def test_a_run_of_ours_has_seed_settings_state_and_counts(tmp_path: Path) -> None:
    [run] = find_runs([str(write_run(tmp_path / "x", {"correct": [0.1, None, 0.3]}, seed=4, end="failed"))])
    assert (run.name, run.seed, run.state, run.detail) == ("x", 4, "failed", "out of memory")
    assert run.measures["correct"] == pytest.approx([0.1, np.nan, 0.3], nan_ok=True)
    assert run.measures[LENGTH].tolist() == [9.0] * 3
    assert {axis: of.tolist() for axis, of in run.counts.items()} == {
        "steps": [1, 2, 3],
        "rollouts": [8, 16, 24],
        "tokens": [100, 200, 300],
        "seconds": [2, 4, 6],
    }


def test_a_run_that_began_again_and_has_not_ended_is_unfinished(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "x", {"correct": [0.1]}, end="stopped")
    with open(folder / "events.jsonl", "a") as file:
        file.write(json.dumps({"time": 2e9, "phase": "attempt", "step": None, "detail": "2"}) + "\n")
    assert find_runs([str(folder)])[0].state == "unfinished"


def test_rollouts_are_unknown_where_more_are_sampled_than_trained_on(tmp_path: Path) -> None:
    settings = {**SETTINGS, "budget": {**SETTINGS["budget"], "filter_groups": "total"}}
    [run] = find_runs([str(write_run(tmp_path / "x", {"correct": [0.1]}, settings=settings))])
    assert "rollouts" not in run.counts


def test_a_sum_with_holes_is_no_count(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "x", {"correct": [0.1, 0.2, 0.3]})
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    (folder / "metrics.jsonl").write_text("\n".join([lines[0], lines[2], ""]))
    assert set(find_runs([str(folder)])[0].counts) == {"steps", "rollouts"}
    (folder / "metrics.jsonl").write_text("\n".join([lines[0], lines[1].replace('tokens": 100', 'tokens": null'), ""]))
    assert set(find_runs([str(folder)])[0].counts) == {"steps", "rollouts", "seconds"}


def test_others_json_lines(tmp_path: Path) -> None:
    """verl's file logger, with its names; TRL's, flat."""
    verl, trl = tmp_path / "verl" / "seed3" / "metrics.jsonl", tmp_path / "trl.jsonl"
    verl.parent.mkdir(parents=True)
    verl.write_text('{"step": 1, "data": {"critic/score/mean": 0.5, "response_length/mean": 7}}\n')
    trl.write_text('{"global_step": 5, "rewards/acc/mean": 0.5, "rewards/acc/std": 9, "completions/mean_length": 8}\n')
    ours, theirs = find_runs([f"verl={verl}", str(trl)])
    assert (ours.group, ours.seed, ours.name, ours.state) == ("verl", 3, "seed3", "unknown")
    assert {name: values.tolist() for name, values in ours.measures.items()} == {"score": [0.5], LENGTH: [7]}
    assert {name: values.tolist() for name, values in theirs.measures.items()} == {"acc": [0.5], LENGTH: [8]}
    assert theirs.steps_T.tolist() == [5]


def test_a_csv_with_empty_cells_and_lines_of_one_step(tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    file.write_text("_step,rewards/acc/mean,eval\n2,0.5,\n1,NaN,\n2,,0.9\n,7,\n")
    [run] = find_runs([str(file)])
    assert run.steps_T.tolist() == [1, 2]
    assert run.measures["acc"] == pytest.approx([np.nan, 0.5], nan_ok=True)


def test_a_chart_of_wandb_is_a_run_a_column(tmp_path: Path) -> None:
    file = tmp_path / "chart.csv"
    head = ["Step"] + [f"gdpo-seed{n} - reward/acc/mean{end}" for n in (0, 1) for end in ("", "__MIN", "__MAX")]
    file.write_text(",".join(f'"{name}"' for name in head) + "\n1,.1,.1,.1,,,\n2,.2,.2,.2,.4,.4,.4\n")
    first, second = find_runs([str(file)])
    assert (first.name, first.seed, first.measures["acc"].tolist()) == ("gdpo-seed0", 0, [0.1, 0.2])
    assert (second.name, second.seed, second.steps_T.tolist()) == ("gdpo-seed1", 1, [2])


def test_tensorboards_events(tmp_path: Path) -> None:
    writer = pytest.importorskip("tensorboard.summary").Writer(str(tmp_path / "tb"))
    for step in range(1, 4):
        writer.add_scalar("reward/acc/mean", step / 10, step)
    writer.close()
    [run] = find_runs([str(tmp_path / "tb")])
    assert run.measures["acc"] == pytest.approx([0.1, 0.2, 0.3])
    assert run.steps_T.tolist() == [1, 2, 3]


def test_the_user_says_which_column_is_a_reward(tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    file.write_text("step,critic/score/mean,acc\n1,0.5,0.7\n")
    [run] = find_runs([str(file)], {"acc": "correct", "critic/score/mean": "score"})
    assert {name: values.tolist() for name, values in run.measures.items()} == {"correct": [0.7], "score": [0.5]}
    with pytest.raises(ConfigError, match="--reward: given 'bcc', which log lacks"):
        find_runs([str(file)], {"bcc": "correct"})


def test_runs_of_one_name_are_told_apart(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / place / "run", {"correct": [0.1]}) for place in "ab"]
    assert [run.name for run in find_runs(list(map(str, folders)))] == ["run", "run (2)"]


def test_a_folder_with_an_equals_sign_is_no_group(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "estimator=grpo,seed=0", {"correct": [0.1]})
    [run] = find_runs([str(folder)])
    assert (run.name, run.group) == ("estimator=grpo,seed=0", None)


@pytest.mark.parametrize(
    ("content", "message"), [("a,b\n1,2\n", "which has no step"), ("", "which has no step"), (None, "unknown name")]
)
def test_what_can_not_be_read_is_refused(tmp_path: Path, content: str | None, message: str) -> None:
    file = tmp_path / "log.csv"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError, match=message):
        find_runs([str(file)], runs=str(tmp_path / "runs"))


def test_a_cell_that_has_begun_without_a_complete_line_comes_last(tmp_path: Path) -> None:
    """A kill as the first line of events.jsonl was written leaves a part of it, or an empty file."""
    for name, content in (("a", b'{"time": 3, "ph'), ("b", b"")):
        write_run(tmp_path / "cells" / name, {"correct": [0.1]})
        (tmp_path / "cells" / name / "events.jsonl").write_bytes(content)
    for name, time in (("z", b"1000000000.0"), ("y", b"1000000001.0")):
        events = write_run(tmp_path / "cells" / name, {"correct": [0.1]}) / "events.jsonl"
        events.write_bytes(events.read_bytes().replace(b"1000000000.0", time))
    (tmp_path / "cells" / "never begun").mkdir()
    found = find_runs([str(tmp_path)])
    assert [run.name for run in found] == ["z", "y", "a", "b"]
    assert [run.state for run in found[2:]] == ["unfinished"] * 2
