"""Stopping and going on in the real stack: signals, kills, dead parts, damage, and refusals of what isn't the same run.

One run has it all, command after command, and must come to what the run that nothing happened to has come to.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from signal import SIGINT, SIGKILL, SIGTERM

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
    command.send(SIGTERM)
    run.ended("dead parts, then SIGTERM in a rollout", command)

    command = run.start("watchdog.warn_after=20", "watchdog.timeout=60")
    command.wait_for("update_actor", 3)
    ranks = command.processes("WorkerDict")
    assert len(ranks) == 2
    ranks[0].kill()
    command.wait_for("rollout", 4, attempt=2)  # not its first: whom nobody is connected to yet is taken for dead
    for engine in command.processes("vLLMHttpServer"):
        engine.suspend()
    command.wait_for("validate", 4, attempt=3)
    command.send_to_group(SIGINT)
    run.ended("a dead rank, frozen engines, then Ctrl-C in a validation", command)

    newest = run.store.load(4).folder
    with open(next((newest / "trainer").glob("*.distcp")), "r+b") as file:
        file.truncate(100)

    command = run.start()
    command.wait_for("save", 6)
    command.kill()
    run.ended("killed in a save", command)

    run.ended("nothing", run.start())
    return run


@pytest.mark.parametrize(
    ("stage", "step"),  # of a checkpoint that wasn't due
    [
        ("dead parts, then SIGTERM in a rollout", 2),
        ("a dead rank, frozen engines, then Ctrl-C in a validation", 4),
    ],
)
def test_a_signal_saves_the_last_whole_step_and_asks_to_be_started_again(
    troubled: Troubled, stage: str, step: int
) -> None:
    ended = troubled.stages[stage]
    assert ended.code == ExitCode.REQUEUE
    assert ended.command.events[-1]["phase"] == Phase.STOPPED
    assert ended.saved[-1] == step


def test_a_kill_in_a_save_leaves_a_run_that_goes_on(troubled: Troubled) -> None:
    killed, ended = troubled.stages["killed in a save"], troubled.stages["nothing"]
    assert killed.code == -SIGKILL
    assert killed.went_on_from == ["from step 3"]
    assert ended.code == ExitCode.DONE
    assert ended.went_on_from in (["from step 3"], ["from step 6"])


def test_a_killed_engine_is_replaced_and_a_killed_reward_worker_costs_nothing(troubled: Troubled) -> None:
    command = troubled.stages["dead parts, then SIGTERM in a rollout"].command
    assert command.count("engine died") == command.count("engine replaced") == 1
    assert command.count("attempt") == 1
    assert command.count(Phase.FAILED) == 0
    assert all(record["budget/rollouts"] == 64 for record in troubled.folder.metrics())
    require_agreement(troubled.folder)  # the new one has the weights


def test_a_frozen_engine_is_named_and_the_run_starts_again(troubled: Troubled) -> None:
    command = troubled.stages["a dead rank, frozen engines, then Ctrl-C in a validation"].command
    for phase in ("standstill", "stuck", Phase.FAILED):
        details = [event["detail"] for event in command.events if event["phase"] == phase]
        named = [detail for detail in details if "nothing has moved for" in detail and "engines: process " in detail]
        assert any("prompts without an end" in detail for detail in named), details  # a slow start is a stall, too
    assert any("most recent call first" in log.read_text() for log in troubled.folder.logs.glob("*.err"))


def test_a_killed_trainer_rank_costs_an_attempt(troubled: Troubled) -> None:
    stage = troubled.stages["a dead rank, frozen engines, then Ctrl-C in a validation"]
    assert stage.command.count(Phase.FAILED) == 2  # the rank and the frozen engines
    assert stage.command.count("attempt") == 3
    assert stage.went_on_from == ["from step 2", "from step 2", "from step 3"]


def test_a_broken_checkpoint_is_skipped_by_name(troubled: Troubled) -> None:
    skipped = {event["detail"] for event in troubled.folder.events() if event["phase"] == "skip checkpoint"}
    skipped.discard("step-00000006: was never finished")  # if the kill came before the checkpoint was whole
    (broken,) = skipped
    assert broken.startswith("step-00000004: trainer/")
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
    done = mrpo("train", *changed, "resume.allow=[actor.learning_rate]")
    assert done.returncode == ExitCode.DONE  # all steps were done


def test_the_evaluation_of_a_checkpoint_gives_what_its_validation_gave(unequal_run: RunFolder) -> None:
    done = mrpo("evaluate", str(unequal_run.path), f"step={STEPS}")
    assert done.returncode == ExitCode.DONE, done.stderr
    evaluation = json.loads((unequal_run.path / "evaluations" / f"step-{STEPS}" / "evaluation.json").read_text())
    last = unequal_run.metrics()[-1]
    assert evaluation == {"step": STEPS, **{k: v for k, v in last.items() if k.startswith("validation/")}}
    assert "correct" in done.stdout
