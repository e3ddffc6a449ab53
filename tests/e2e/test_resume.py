"""Stopping and going on in the real stack: signals, kills, dead parts, damage, and refusals of what isn't the same run.

One run has it all, command after command, and must come to what the run that nothing happened to has come to.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from signal import SIGKILL, SIGTERM

import pytest

from mrpo.checkpoint.store import CheckpointStore
from mrpo.exit_code import ExitCode
from mrpo.record.phase import Phase
from mrpo.record.run_folder import RunFolder
from tests.faults.kill_resume import essence, first_difference

from .commands import Command
from .conftest import STEPS, mrpo, require_agreement

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(2400)]


@dataclass
class Stage:
    """How a command ended, and the checkpoints there were then."""

    command: Command
    code: int
    saved: list[int]

    @property
    def went_on_from(self) -> list[str]:
        return [event["detail"] for event in self.command.events if event["phase"] == "resume"]


class Troubled:
    """A run of several commands, by what happened to each."""

    def __init__(self, folder: RunFolder, overrides: list[str]):
        self.folder, self.overrides = folder, overrides
        self.store = CheckpointStore(folder.checkpoints)
        self.stages: dict[str, Stage] = {}

    def start(self, *overrides: str) -> Command:
        return Command(self.folder, *self.overrides, *overrides)

    def ended(self, name: str, command: Command) -> None:
        code = command.ends()
        assert code in (ExitCode.DONE, ExitCode.REQUEUE, -SIGKILL), f"{name}: {code}: {command.last_words()}"
        self.stages[name] = Stage(command, code, self.store.steps())


@pytest.fixture(scope="module")
def troubled(exact: list[str], tmp_path_factory: pytest.TempPathFactory) -> Troubled:
    run = Troubled(RunFolder(tmp_path_factory.mktemp("troubled") / "run"), exact)

    command = run.start()
    command.wait_for("rollout", 1)
    command.processes("RewardLoopWorker")[0].kill()
    command.wait_for("rollout", 2)
    engines = command.processes("vLLMHttpServer")
    assert len(engines) == 2
    engines[0].kill()
    command.wait_for("rollout", 3)
    command.send_to_group(SIGTERM)  # as `timeout` does
    run.ended("dead parts, then SIGTERM in a rollout", command)

    command = run.start()
    command.wait_for("update_actor", 3)
    ranks = command.processes("WorkerDict")
    assert len(ranks) == 2
    ranks[0].kill()
    command.wait_for("save", 6)
    command.kill()
    run.ended("a dead rank, then killed in a save", command)

    newest = run.store.newest_whole().found
    assert newest is not None
    with open(next((newest.folder / "trainer").glob("*.distcp")), "r+b") as file:
        file.truncate(100)

    run.ended("nothing", run.start())
    return run


def test_a_signal_saves_the_last_whole_step_and_asks_to_be_started_again(troubled: Troubled) -> None:
    ended = troubled.stages["dead parts, then SIGTERM in a rollout"]
    assert ended.code == ExitCode.REQUEUE
    assert ended.command.events[-1]["phase"] == Phase.STOPPED
    assert ended.saved[-1] == 2  # which wasn't due


def test_a_kill_in_a_save_leaves_a_run_that_goes_on(troubled: Troubled) -> None:
    killed, ended = troubled.stages["a dead rank, then killed in a save"], troubled.stages["nothing"]
    assert killed.code == -SIGKILL
    assert {2, 3} <= set(killed.saved)
    assert ended.code == ExitCode.DONE
    # The newest was damaged: that of step 3, or of step 6 if the kill came when it was whole.
    assert ended.went_on_from == [f"from step {3 if 6 in killed.saved else 2}"]


def test_a_killed_engine_is_replaced_and_a_killed_reward_worker_costs_nothing(troubled: Troubled) -> None:
    command = troubled.stages["dead parts, then SIGTERM in a rollout"].command
    assert command.count("engine died") == command.count("engine replaced") == 1
    assert command.count("attempt") == 1
    assert command.count(Phase.FAILED) == 0
    assert all(record["budget/rollouts"] == 64 for record in troubled.folder.metrics())
    require_agreement(troubled.folder)  # the new one has the weights


def test_a_killed_trainer_rank_costs_an_attempt(troubled: Troubled) -> None:
    stage = troubled.stages["a dead rank, then killed in a save"]
    assert stage.command.count(Phase.FAILED) == 1
    assert stage.command.count("attempt") == 2
    assert stage.went_on_from == ["from step 2", "from step 2"]


def test_a_broken_checkpoint_is_skipped_by_name(troubled: Troubled) -> None:
    skipped = {event["detail"] for event in troubled.folder.events() if event["phase"] == "skip checkpoint"}
    skipped.discard("step-00000006: was never finished")  # if the kill came before it was whole
    (broken,) = skipped
    newest = 6 if 6 in troubled.stages["a dead rank, then killed in a save"].saved else 3
    assert broken.startswith(f"step-{newest:08}: trainer/")
    assert "is 100 bytes" in broken
    assert troubled.store.newest_whole().found.step == STEPS  # type: ignore[union-attr]


def test_all_of_that_comes_to_the_run_that_nothing_happened_to(troubled: Troubled, unequal_run: RunFolder) -> None:
    assert first_difference(essence(unequal_run, STEPS), essence(troubled.folder, STEPS)) is None


def test_another_learning_rate_is_refused_with_the_words_that_allow_it(
    unequal_run: RunFolder, exact: list[str]
) -> None:
    changed = ["recipe=quickstart", f"run_dir={unequal_run.path}", *exact, "actor.learning_rate=0.01"]
    done = mrpo("train", *changed)
    assert done.returncode == ExitCode.BAD_INPUT
    assert "actor.learning_rate: was 0.0001, is 0.01" in done.stderr
    assert "resume.allow=[actor.learning_rate]" in done.stderr
    written = (unequal_run.model / "README.md").stat()
    done = mrpo("train", *changed, "resume.allow=[actor.learning_rate]")
    assert done.returncode == ExitCode.DONE  # all steps were done
    assert (unequal_run.model / "README.md").stat() == written  # and the model was there


def test_the_evaluation_of_a_checkpoint_gives_what_its_validation_gave(unequal_run: RunFolder) -> None:
    """And the model that the run began with, in the same start of the stack, what the validation before training gave:
    the ranks have loaded its files over the checkpoint's weights."""
    done = mrpo("evaluate", str(unequal_run.path), "base", f"step={STEPS}")
    assert done.returncode == ExitCode.DONE, done.stderr
    folder = RunFolder(unequal_run.path / "evaluations" / f"step-{STEPS}-vs-base")
    evaluation, last = json.loads((folder.path / "evaluation.json").read_text()), unequal_run.metrics()[-1]
    checkpoint, base = evaluation["models"]
    assert (checkpoint["step"], base["name"]) == (STEPS, "base")
    assert checkpoint["validation"] == {k: v for k, v in last.items() if k.startswith("validation/")}
    assert folder.read_validation(f"1-step-{STEPS}") == unequal_run.read_validation(STEPS)
    assert folder.read_validation("2-base") == unequal_run.read_validation(0)
    assert sum(event["phase"] == Phase.PLAN for event in folder.events()) == 1
    (change,) = [one for one in evaluation["lines"] if (one["model"], one["measure"]) == ("base", "correct")]
    assert change["difference"]["high"] < 0  # untrained is worse, beyond chance
    assert f"change from step {STEPS}" in done.stdout
