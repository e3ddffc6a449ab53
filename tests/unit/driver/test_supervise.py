"""After a failure the run is started again only if that may help, and from the newest whole checkpoint."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from shutil import rmtree
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from mrpo.checkpoint.store import CheckpointStore
from mrpo.config.checked_run import CheckedRun
from mrpo.config.device import Device
from mrpo.config.load import validate
from mrpo.config.recipes import Recipe
from mrpo.config.run import RunConfig
from mrpo.driver import fork_server, supervise
from mrpo.driver.interruption import Interruption
from mrpo.driver.processes import Processes
from mrpo.driver.supervise import completed_steps
from mrpo.errors import ConfigError, RunFailed
from mrpo.export.error import ExportError
from mrpo.record.phase import Phase
from mrpo.record.run_folder import RunFolder

pytestmark = pytest.mark.unit

Attempt = dict[str, Any]


class FakeAttempts:
    """Stands in for an attempt, to test when there is another: gets to a step, saves it, and fails or ends."""

    def __init__(self, *reached: int, saves: bool = True):
        self.reached, self.saves = list(reached), saves
        self.attempts: list[Attempt] = []

    def __call__(
        self,
        config: RunConfig,
        verl: DictConfig,
        folder: RunFolder,
        interruption: Interruption,
        poll: Callable[[], None],
        finish: Callable[[], str],
        processes: Processes,
    ) -> str:
        attempt: Any = OmegaConf.to_container(verl.mrpo.attempt)
        self.attempts.append(attempt)
        step = self.reached.pop(0)
        for done in range(attempt["start_step"] + 1, step + 1):
            folder.write_metrics(done, {"reward/good/mean": 0.5})
            if self.saves:
                store = CheckpointStore(folder.checkpoints)
                staging = store.staging(done)
                (staging / "state").write_text(str(done))
                store.publish(staging, done, extra={"identity": attempt["identity"]})
        if step == config.trainer.total_training_steps:
            return finish()
        raise RunFailed(f"failed in step {step + 1}")


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    (tmp_path / "rewards.py").write_text("def good(prompt, response, truth, extra):\n    return 1.0\n")
    (tmp_path / "data.parquet").write_bytes(b"rows")
    run = RunFolder(tmp_path / "run")
    run.checkpoints.mkdir(parents=True)
    return run


def train(
    folder: RunFolder,
    fake: FakeAttempts,
    monkeypatch: pytest.MonkeyPatch,
    prepared: Path | None = None,
    **settings: Any,
) -> str:
    data = str(folder.path.parent / "data.parquet")
    content = {
        "recipe": "mine",
        "model": {"path": "policy"},
        "data": {"train_files": [data], "val_files": [data], "train_batch_size": 4},
        "rewards": {"good": {"function": "rewards.py:good"}},
        "trainer": {"total_training_steps": 5, "export": "none"},
        "checkpoint": {"every": 1},
        **settings,
    }
    monkeypatch.setattr(supervise, "run_attempt", fake)
    run = CheckedRun(validate(content), Recipe(folder.path.parent, "config"), prepared or folder.path, Device.CPU)
    return supervise.train(run, folder, Interruption(), lambda: None)


def test_an_attempt_that_got_further_is_followed_by_another(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeAttempts(2, 4, 5)
    assert train(folder, fake, monkeypatch) == Phase.DONE
    assert [(a["number"], a["start_step"]) for a in fake.attempts] == [(1, 0), (2, 2), (3, 4)]
    assert sum(event["phase"] == Phase.ATTEMPT for event in folder.events()) == 3


def test_the_same_step_failing_twice_ends_the_run(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeAttempts(2, 2, 5)
    with pytest.raises(RunFailed, match="failed in step 3"):
        train(folder, fake, monkeypatch)
    assert len(fake.attempts) == 2


def test_steps_that_were_given_up_do_not_count_as_reached(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RunFailed):
        train(folder, FakeAttempts(4), monkeypatch, resume={"max_restarts": 0})
    again = FakeAttempts(3, 4, 5)
    assert train(folder, again, monkeypatch, resume={"step": 2}) == Phase.DONE
    assert [a["start_step"] for a in again.attempts] == [2, 3, 4]


def test_steps_without_a_line_of_metrics_were_completed_all_the_same(folder: RunFolder) -> None:
    folder.write_metrics(1, {})
    folder.event(Phase.ROLLOUT, step=9)
    began = time.time()
    folder.event(Phase.LOAD_CHECKPOINT, step=4)
    assert completed_steps(folder, began) == set()
    for step in (5, 6, 7):
        folder.event(Phase.ROLLOUT, step=step)
    folder.write_metrics(5, {})
    assert completed_steps(folder, began) == {4, 5, 6}


def test_restarts_are_limited(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeAttempts(1, 2, 3, 5)
    with pytest.raises(RunFailed):
        train(folder, fake, monkeypatch, resume={"max_restarts": 1})
    assert len(fake.attempts) == 2


def test_without_a_checkpoint_a_failure_is_final(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeAttempts(2, 5, saves=False)
    with pytest.raises(RunFailed):
        train(folder, fake, monkeypatch)
    assert len(fake.attempts) == 1


def test_libraries_are_imported_while_model_and_data_are_prepared(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, prepared = folder.path.parent, folder.path.parent / "prepared"
    (recipe / "prepare.py").write_text(
        "import os, pathlib, sys; pathlib.Path(sys.argv[2], 'rows').write_text(os.environ['MRPO_FORK_SERVER'])"
    )
    (folder.logs).mkdir()
    monkeypatch.setattr(fork_server.ForkServer.__init__, "__defaults__", (None, ("json",), ("numpy",)))
    done = train(folder, FakeAttempts(5), monkeypatch, prepare="prepare.py", prepared=prepared)
    assert done == Phase.DONE
    assert (prepared / "rows").read_text().endswith("fork.sock")  # it was there meanwhile
    assert "MRPO_FORK_SERVER" not in os.environ
    rmtree(prepared)
    assert train(folder, FakeAttempts(), monkeypatch, prepare="prepare.py", prepared=prepared) == Phase.DONE
    assert (prepared / "rows").exists()  # and the fork server, which waits for a Ray, is no longer asked


def test_a_finished_run_starts_nothing(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    train(folder, FakeAttempts(5), monkeypatch)
    fake = FakeAttempts()
    assert train(folder, fake, monkeypatch) == Phase.DONE
    assert not fake.attempts
    assert (
        train(folder, FakeAttempts(8), monkeypatch, trainer={"total_training_steps": 8, "export": "none"}) == Phase.DONE
    )


def test_changed_data_reward_code_and_settings_are_refused(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RunFailed):
        train(folder, FakeAttempts(2), monkeypatch, resume={"max_restarts": 0})
    (folder.path.parent / "data.parquet").write_bytes(b"rowz")
    (folder.path.parent / "rewards.py").write_text("def good(prompt, response, truth, extra):\n    return 0.0\n")
    config = folder.config.read_text()
    with pytest.raises(ConfigError) as refused:
        train(folder, FakeAttempts(), monkeypatch, actor={"learning_rate": 1.0})
    for field in ("data.train_files", "rewards.good.function", "actor.learning_rate: was 1e-06, is 1.0"):
        assert field in str(refused.value)
    assert folder.config.read_text() == config  # what was refused isn't what the run is
    allowed = {"allow": ["data", "rewards"]}
    assert train(folder, FakeAttempts(5), monkeypatch, resume=allowed) == Phase.DONE


def test_a_model_that_can_not_be_written_costs_no_attempt_and_is_tried_again_by_the_same_command(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    best: dict[str, Any] = {
        "trainer": {"total_training_steps": 5, "export": "best"},
        "checkpoint": {"every": 1, "keep_best": 1, "best_metric": "reward/unheard/mean"},
    }
    fake = FakeAttempts(5, 5)
    for _ in range(2):
        with pytest.raises(ExportError, match="all steps are done and saved, but the model isn't written"):
            train(folder, fake, monkeypatch, **best)
    assert len(fake.attempts) == 1
    assert folder.events()[-1]["phase"] == Phase.FAILED
    best["trainer"]["export"] = "none"
    assert train(folder, fake, monkeypatch, **best) == Phase.DONE
