"""Stopping and going on in the real stack: signals, kills, dead parts, and refusals of what isn't the same run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from mrpo.checkpoint.store import CheckpointStore
from mrpo.driver.interruption import BAD_INPUT, DONE, REQUEUE
from mrpo.record.jsonl import Record
from mrpo.record.phase import Phase
from mrpo.record.run_folder import RunFolder
from tests.faults.kill_resume import essence, first_difference

from .conftest import mrpo

pytestmark = pytest.mark.e2e

STEPS = 4
OVERRIDES = [
    "recipe=quickstart",
    f"trainer.total_training_steps={STEPS}",
    "trainer.determinism=strict",
    "checkpoint.every=2",
    "checkpoint.keep_last=3",
    "budget.method=neyman",
    "budget.signal=estimator",
    "budget.low=2",
    "budget.high=24",
    "trainer.test_freq=2",
    "data.val_batch_size=8",
]


def start(folder: RunFolder, *overrides: str) -> subprocess.Popen[bytes]:
    folder.path.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "mrpo.cli.main", "train", f"run_dir={folder.path}", *OVERRIDES, *overrides]
    with open(folder.path.with_suffix(".out"), "ab") as out:
        return subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)


def wait_for(folder: RunFolder, what: Callable[[Record], bool], process: subprocess.Popen[bytes]) -> None:
    """Until an event of the run is ``what``."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        if folder.events_file.exists() and any(what(event) for event in folder.events()):
            return
        assert process.poll() is None, folder.path.with_suffix(".out").read_text()[-3000:]
        time.sleep(0.02)
    raise AssertionError(f"it never came: {[event['phase'] for event in folder.events()]}")


def in_phase(phase: str, step: int) -> Callable[[Record], bool]:
    return lambda event: (event["phase"], event["step"]) == (phase, step)


def processes(process: subprocess.Popen[bytes], name: str) -> list[psutil.Process]:
    """The run's processes whose command line holds ``name``."""
    tree = psutil.Process(process.pid).children(recursive=True)
    return [child for child in tree if name in " ".join(child.cmdline())]


@pytest.fixture(scope="module")
def undisturbed(quickstart: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = RunFolder(tmp_path_factory.mktemp("undisturbed") / "run")
    assert start(folder).wait(400) == DONE, folder.path.with_suffix(".out").read_text()[-3000:]
    return folder


def finish(folder: RunFolder, undisturbed: RunFolder, *overrides: str) -> None:
    """Give the same command again, which must come to what it would have without any stop."""
    assert start(folder, *overrides).wait(400) == DONE, folder.path.with_suffix(".out").read_text()[-3000:]
    assert first_difference(essence(undisturbed, STEPS), essence(folder, STEPS)) is None


@pytest.mark.parametrize(
    ("number", "phase", "step"),
    [(signal.SIGTERM, "rollout", 3), (signal.SIGINT, "update_actor", 2), (signal.SIGUSR1, "validate", 2)],
)
def test_a_signal_saves_and_the_same_command_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, undisturbed: RunFolder, number: signal.Signals, phase: str, step: int
) -> None:
    folder = RunFolder(tmp_path / "run")
    process = start(folder)
    wait_for(folder, in_phase(phase, step), process)
    if number == signal.SIGINT:  # as a terminal's Ctrl-C does: to all that is in the group
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    assert process.wait(120) == REQUEUE, folder.path.with_suffix(".out").read_text()[-3000:]
    assert folder.events()[-1]["phase"] == Phase.STOPPED
    assert CheckpointStore(folder.checkpoints).steps()[-1] == 2
    if phase != "update_actor":  # which abandons nothing, so that going on is as after any save
        finish(folder, undisturbed)


def test_killed_reward_workers_and_trainer_ranks_cost_no_step(tmp_path: Path, undisturbed: RunFolder) -> None:
    folder = RunFolder(tmp_path / "run")
    process = start(folder)
    wait_for(folder, in_phase("rollout", 3), process)
    for victim in processes(process, "RewardLoopWorker")[:1]:
        victim.kill()
    wait_for(folder, in_phase("update_actor", 3), process)
    ranks = processes(process, "WorkerDict")
    assert len(ranks) == 2
    ranks[0].kill()
    assert process.wait(400) == DONE, folder.path.with_suffix(".out").read_text()[-3000:]
    phases = [event["phase"] for event in folder.events()]
    assert phases.count(Phase.FAILED) == 1  # the rank's death; the reward worker's was none
    assert phases.count("attempt") == 2
    assert first_difference(essence(undisturbed, STEPS), essence(folder, STEPS)) is None


def test_a_killed_engine_is_replaced_and_its_prompts_are_generated_again(tmp_path: Path, quickstart: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    process = start(folder, "rollout.replicas=2", "trainer.test_freq=-1")
    wait_for(folder, in_phase("rollout", 2), process)
    engines = processes(process, "vLLMHttpServer")
    assert len(engines) == 2
    engines[0].kill()
    assert process.wait(400) == DONE, folder.path.with_suffix(".out").read_text()[-3000:]
    phases = [event["phase"] for event in folder.events()]
    assert phases.count("engine died") == phases.count("engine replaced") == 1
    assert phases.count("attempt") == 1
    assert all(record["budget/rollouts"] == 128 for record in folder.metrics())
    assert all(record["rollout/probs_diff/max"] < 2e-5 for record in folder.metrics())  # the new one has the weights


def test_a_frozen_engine_is_named_and_the_run_starts_again(tmp_path: Path, undisturbed: RunFolder) -> None:
    folder = RunFolder(tmp_path / "run")
    process = start(folder, "watchdog.warn_after=20", "watchdog.timeout=45")
    wait_for(folder, in_phase("rollout", 3), process)
    for victim in processes(process, "vLLMHttpServer"):
        victim.suspend()
    assert process.wait(500) == DONE, folder.path.with_suffix(".out").read_text()[-3000:]
    details = {event["phase"]: event["detail"] for event in folder.events()}
    for phase in (Phase.STALLED, Phase.STUCK, Phase.FAILED):
        assert "nothing has moved for" in details[phase]
        assert "prompts without an end" in details[phase]
        assert "engines: process " in details[phase]
    assert any("most recent call first" in log.read_text() for log in folder.logs.glob("*.err"))
    assert first_difference(essence(undisturbed, STEPS), essence(folder, STEPS)) is None


def test_another_learning_rate_is_refused_with_the_words_that_allow_it(undisturbed: RunFolder) -> None:
    changed = [f"run_dir={undisturbed.path}", *OVERRIDES, "actor.learning_rate=0.01"]
    done = mrpo("train", *changed)
    assert done.returncode == BAD_INPUT
    assert "actor.learning_rate: was 0.0001, is 0.01" in done.stderr
    assert "resume.allow=[actor.learning_rate]" in done.stderr
    assert mrpo("train", *changed, "resume.allow=[actor.learning_rate]").returncode == DONE  # all steps were done


def test_the_evaluation_of_a_checkpoint_gives_what_its_validation_gave(undisturbed: RunFolder) -> None:
    done = mrpo("evaluate", str(undisturbed.path), f"step={STEPS}")
    assert done.returncode == DONE, done.stderr
    evaluation = json.loads((undisturbed.path / "evaluations" / f"step-{STEPS}" / "evaluation.json").read_text())
    last = undisturbed.metrics()[-1]
    assert evaluation == {"step": STEPS, **{k: v for k, v in last.items() if k.startswith("validation/")}}
    assert "correct" in done.stdout


def test_a_broken_checkpoint_is_skipped_by_name(tmp_path: Path, undisturbed: RunFolder) -> None:
    """Comes last: it takes a byte out of the undisturbed run's newest checkpoint."""
    newest = CheckpointStore(undisturbed.checkpoints).load(STEPS).folder
    with open(next((newest / "trainer").glob("*.distcp")), "r+b") as file:
        file.truncate(100)
    assert start(undisturbed).wait(400) == DONE
    skipped = [event["detail"] for event in undisturbed.events() if event["phase"] == "skip checkpoint"]
    assert len(skipped) == 1
    assert newest.name in skipped[0]
    assert CheckpointStore(undisturbed.checkpoints).newest_whole().found.step == STEPS  # type: ignore[union-attr]


def test_kills_of_the_whole_tree_change_nothing(tmp_path: Path, quickstart: Path) -> None:
    """The short form of what anyone can run with more kills: one at any time, one inside a save."""
    script = Path(__file__).parents[1] / "faults" / "kill_resume.py"
    command = [sys.executable, str(script), "2", "--steps", "3", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=580, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 kills in" in done.stdout
