"""What the end of a run does about its model: written once, never over something, and no failure loses a checkpoint.

That the model itself is right: tests/unit/export, tests/e2e/test_export.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mrpo.checkpoint.store import CheckpointStore
from mrpo.config.load import validate
from mrpo.config.run import RunConfig
from mrpo.driver.final_model import write_model
from mrpo.driver.interruption import Interruption
from mrpo.errors import ConfigError
from mrpo.export.error import ExportError
from mrpo.export.origin import ORIGIN
from mrpo.record.phase import Phase
from mrpo.record.run_folder import RunFolder

pytestmark = pytest.mark.unit


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run without a config.yaml, so that an export of it is refused as soon as it starts."""
    run = RunFolder(tmp_path / "run")
    run.logs.mkdir(parents=True)
    store = CheckpointStore(run.checkpoints)
    for step in (3, 5):
        staging = store.staging(step)
        (staging / "state").write_text(str(step))
        store.publish(staging, step)
    run.event(Phase.PLAN)
    return run


def config(**settings: Any) -> RunConfig:
    content = {
        "recipe": "mine",
        "model": {"path": "policy"},
        "data": {"train_files": ["train"], "val_files": ["val"], "train_batch_size": 4},
        "rewards": {"good": {"function": "rewards.py:good"}},
    }
    return validate({**content, **settings})


def ended(folder: RunFolder, interruption: Interruption | None = None, **settings: Any) -> str:
    store = CheckpointStore(folder.checkpoints)
    return write_model(config(**settings), folder, store, interruption or Interruption(), lambda: None)


def phases(folder: RunFolder) -> list[str]:
    return [event["phase"] for event in folder.events()][1:]


def test_none_writes_nothing(folder: RunFolder) -> None:
    assert ended(folder, trainer={"export": "none"}) == Phase.DONE
    assert phases(folder) == []
    assert not folder.model.exists()


def test_a_model_of_the_last_step_is_not_written_again(folder: RunFolder) -> None:
    folder.model.mkdir()
    (folder.model / ORIGIN).write_text(json.dumps({"step": 5}))
    assert ended(folder) == Phase.DONE
    assert phases(folder) == []


def test_another_folder_of_that_name_stays_and_the_run_says_so(folder: RunFolder) -> None:
    folder.model.mkdir()
    (folder.model / "mine").touch()
    assert ended(folder) == Phase.DONE
    assert "no export: it stays" in folder.events()[-1]["detail"]
    assert (folder.model / "mine").exists()


def test_what_can_not_be_written_is_one_message_and_a_failed_end(folder: RunFolder) -> None:
    folder.model.mkdir()
    (folder.model / ORIGIN).write_text(json.dumps({"step": 3}))  # before it was given more steps
    killed = folder.path / ".model.elsewhere.1.partial"
    killed.mkdir()
    with pytest.raises(ExportError) as failed:
        ended(folder)
    assert str(failed.value).splitlines() == [
        "all steps are done and saved, but the model isn't written: "
        f"run: {folder.path.resolve()} holds no config.yaml. Allowed: a run's folder.",
        f"The same command tries again. Elsewhere: mrpo export {folder.path} --out FOLDER",
    ]
    assert phases(folder) == [Phase.EXPORT, Phase.FAILED]
    assert not killed.exists()
    assert CheckpointStore(folder.checkpoints).steps() == [3, 5]
    assert not folder.model.exists()
    assert (folder.path / "model-step-3" / ORIGIN).exists()


def test_a_request_to_end_comes_first(folder: RunFolder) -> None:
    assert ended(folder, Interruption(wall_clock=0.0)) == Phase.STOPPED
    assert phases(folder) == [Phase.EXPORT, Phase.STOPPED]
    assert "the model isn't written yet" in folder.events()[-1]["detail"]


def test_best_is_by_the_metric_and_fails_without_it(folder: RunFolder) -> None:
    best: dict[str, Any] = {
        "checkpoint": {"best_metric": "reward/good/mean", "keep_best": 1},
        "trainer": {"export": "best"},
    }
    with pytest.raises(ExportError, match="no checkpoint has reward/good/mean"):
        ended(folder, **best)
    store = CheckpointStore(folder.checkpoints)
    store.publish(store.staging(7), 7, metrics={"reward/good/mean": 1.0})
    store.publish(store.staging(8), 8, metrics={"reward/good/mean": 0.5})
    with pytest.raises(ExportError, match="no config"):
        ended(folder, **best)
    assert folder.events()[-2]["step"] == 7


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"checkpoint": {"final": False}}, r"trainer.export: given last with checkpoint.final=false"),
        ({"trainer": {"export": "best"}}, r"trainer.export: given best without checkpoint.best_metric"),
    ],
)
def test_a_model_that_there_would_be_no_checkpoint_of_is_refused_at_once(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        config(**settings)
