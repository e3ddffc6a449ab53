"""A run that is stopped anywhere goes on as if it hadn't been; what a stop interrupts is saved or made up for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mrpo.budget.uids import uid_content
from mrpo.checkpoint.store import CheckpointStore
from mrpo.config.controller import Attempt, ControllerConfig, Weights
from mrpo.config.load import validate
from mrpo.record.jsonl import Record
from mrpo.record.phase import Phase
from mrpo.record.run_folder import RunFolder
from mrpo.step.run import TrainingRun

from .faulty_seam import FaultySeam
from .test_step import run_content

pytestmark = pytest.mark.unit

STEPS = 4


def no_stacks() -> None:
    raise AssertionError("the run gave up")


def start(path: Path, seam: FaultySeam, attempt: Attempt | None = None, **sections: Any) -> TrainingRun:
    path.mkdir(exist_ok=True)
    content = run_content(**{"checkpoint": {"every": 2, "keep_last": 9}, **sections})
    return TrainingRun(
        ControllerConfig(run=validate(content), recipe_folder=path, run_dir=path, attempt=attempt or Attempt()),
        no_stacks,
        lambda: ["engine-1: KeyError: 'x'"],
    )


def train(path: Path, seam: FaultySeam, attempt: Attempt | None = None, **sections: Any) -> RunFolder:
    start(path, seam, attempt, **sections).train(seam)
    return RunFolder(path)


def evaluate(
    path: Path, *checkpoints: str | None, model: str | None = None, in_validation: Callable[[int], None] | None = None
) -> tuple[RunFolder, FaultySeam]:
    seam = FaultySeam(STEPS)
    seam.in_validation = in_validation or seam.in_validation
    named = [("initial" if folder is None else "checkpoint", {"checkpoint": folder}) for folder in checkpoints]
    named += [("model", {"model": model})] if model else []
    weights = [Weights(name=name, number=n, **given) for n, (name, given) in enumerate(named, 1)]
    start(path, seam, Attempt(evaluate=weights)).evaluate(seam)
    return RunFolder(path), seam


def newest(path: Path, number: int) -> Attempt:
    """The attempt that goes on from the newest checkpoint."""
    found = CheckpointStore(path / "checkpoints", path / "scratch").newest_whole().found
    assert found is not None
    return Attempt(number=number, start_step=found.step, folder=str(found.folder))


def essence(folder: RunFolder) -> tuple[list[Record], list[list[Record]]]:
    measured = ("time", "checkpoint/blocked_seconds")
    metrics = [{k: v for k, v in record.items() if k not in measured} for record in folder.metrics()]
    return metrics, [folder.read_rollouts(step) for step in folder.rollout_steps()]


@pytest.fixture
def undisturbed(tmp_path: Path) -> RunFolder:
    return train(tmp_path / "undisturbed", FaultySeam(STEPS), trainer={"test_freq": 2})


def test_every_step_is_run_once_and_saved_when_due(undisturbed: RunFolder) -> None:
    assert [record["step"] for record in undisturbed.metrics()] == [1, 2, 3, 4]
    assert CheckpointStore(undisturbed.checkpoints, undisturbed.scratch).steps() == [2, 4]
    phases = [(event["phase"], event["step"]) for event in undisturbed.events()]
    assert phases[:4] == [("start controller", None), ("update_weights", 0), ("plan", None), ("rollout", 1)]


@pytest.mark.parametrize("stopped_in", [1, 2, 3, 4])
def test_a_run_stopped_in_a_wait_goes_on_as_if_it_had_not_been(
    tmp_path: Path, undisturbed: RunFolder, stopped_in: int
) -> None:
    path, seam = tmp_path / "stopped", FaultySeam(STEPS)
    folder = RunFolder(path)
    seam.in_wait = lambda step: folder.stop_file.touch() if step == stopped_in else None
    train(path, seam, trainer={"test_freq": 2})
    assert folder.events()[-1]["phase"] == Phase.STOPPED
    assert folder.events()[-1]["detail"] == f"{stopped_in - 1} of {STEPS} steps are saved"
    folder.stop_file.unlink()
    attempt = newest(path, 2) if stopped_in > 1 else Attempt(number=2)
    assert attempt.start_step == stopped_in - 1
    train(path, FaultySeam(STEPS), attempt, trainer={"test_freq": 2})
    assert essence(folder) == essence(undisturbed)


def test_a_validation_abandoned_for_a_stop_is_made_up_for(tmp_path: Path, undisturbed: RunFolder) -> None:
    path, seam = tmp_path / "stopped", FaultySeam(STEPS)
    folder = RunFolder(path)
    seam.in_validation = lambda step: folder.stop_file.touch()
    train(path, seam, trainer={"test_freq": 2})
    assert folder.events()[-1]["detail"] == f"2 of {STEPS} steps are saved"
    assert not any(name.startswith("validation/") for name in folder.metrics()[-1])
    folder.stop_file.unlink()
    again = FaultySeam(STEPS)
    train(path, again, newest(path, 2), trainer={"test_freq": 2})
    assert essence(folder) == essence(undisturbed)
    assert again.logged[2]["validation/val-core/test/correct/mean@1"] == 2.0


def test_a_stop_before_the_first_step_saves_nothing(tmp_path: Path) -> None:
    folder, seam = RunFolder(tmp_path), FaultySeam(STEPS)
    seam.in_validation = lambda step: folder.stop_file.touch()
    train(tmp_path, seam, Attempt(validate_first=True))
    assert folder.events()[-1]["detail"] == f"0 of {STEPS} steps are saved"
    assert not CheckpointStore(folder.checkpoints, folder.scratch).steps()
    assert not folder.metrics_file.exists()


def test_an_evaluation_validates_the_checkpoint_and_trains_nothing(tmp_path: Path, undisturbed: RunFolder) -> None:
    folder, seam = evaluate(tmp_path / "evaluation", newest(undisturbed.path, 1).folder)
    (record,) = folder.metrics()
    assert record["validation/val-core/test/correct/mean@1"] == 4.0
    assert [row["response"] for row in folder.read_validation("checkpoint")] == ["by weights 4.0"]
    assert "update_actor" not in seam.calls
    assert seam.calls[-1] == "end"


def test_an_evaluation_of_several_gives_each_its_own_weights(tmp_path: Path, undisturbed: RunFolder) -> None:
    (tmp_path / "weights.json").write_text("9.0")
    seen: list[int] = []
    folder, seam = evaluate(
        tmp_path / "evaluation",
        None,
        newest(undisturbed.path, 1).folder,
        model=str(tmp_path),
        in_validation=seen.append,
    )
    values = [record["validation/val-core/test/correct/mean@1"] for record in folder.metrics()]
    assert folder.metrics()[0]["reward/correct/mean"] == 1.0  # for the display
    assert values == [0.0, 4.0, 9.0]  # what the model's files say, the checkpoint, and another model's files
    texts = [folder.read_validation(name)[0]["response"] for name in ("initial", "checkpoint", "model")]
    assert texts == [f"by weights {value}" for value in values]
    assert seam.calls.count("pause") == 2  # engines on the ranks' devices make room for each next load
    assert len(set(seen)) == 1  # the seeds are the same


def test_a_stopped_evaluation_says_how_far_it_came(tmp_path: Path, undisturbed: RunFolder) -> None:
    folder = RunFolder(tmp_path / "evaluation")
    checkpoint = newest(undisturbed.path, 1).folder
    calls: list[int] = []

    def stop_in_the_second(step: int) -> None:
        calls.append(step)
        if len(calls) == 2:
            folder.stop_file.touch()

    evaluate(folder.path, None, checkpoint, in_validation=stop_in_the_second)
    assert folder.events()[-1]["phase"] == Phase.STOPPED
    assert folder.events()[-1]["detail"] == "1 of 2 are evaluated"
    assert [record["step"] for record in folder.metrics()] == [1]


def test_validations_leave_their_rollouts(undisturbed: RunFolder) -> None:
    assert undisturbed.validation_steps() == [2, 4]
    (row,) = undisturbed.read_validation(2)
    assert row["rewards"] == {"correct": 1.0, "short": None}
    trained = {uid_content(rollout["uid"]) for rollout in undisturbed.read_rollouts(1)}
    assert row["uid"] in trained  # the same prompt has the same id in training


def test_a_fault_ends_the_run_and_what_was_saved_stays(tmp_path: Path) -> None:
    seam = FaultySeam(STEPS)
    seam.in_wait = lambda step: setattr(seam, "correlation", 0.0 if step == 3 else 1.0)
    with pytest.raises(RuntimeError, match="the weights did not arrive"):
        train(tmp_path, seam)
    assert seam.calls[-1] == "end"
    assert CheckpointStore(tmp_path / "checkpoints", tmp_path / "scratch").steps() == [2]


def test_a_stop_between_mini_batches_waits_for_the_end_of_the_step(tmp_path: Path) -> None:
    path, seam = tmp_path / "run", FaultySeam(STEPS, mini_batches=2)
    folder = RunFolder(path)
    seam.in_wait = lambda step: folder.stop_file.touch() if step == 2 and "update_actor" in seam.calls else None
    train(path, seam)
    assert folder.events()[-1]["detail"] == f"2 of {STEPS} steps are saved"
    assert [record["step"] for record in folder.metrics()] == [1, 2]
    saved = newest(path, 2)
    assert saved.folder is not None
    assert float((Path(saved.folder) / "trainer" / "weights.json").read_text()) == seam.weights.weights
