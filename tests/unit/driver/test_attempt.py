"""When a controller is no longer waited for, and what is written of one that failed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from mrpo.config.load import validate
from mrpo.config.run import RunConfig
from mrpo.driver.attempt import _failure, _reason_to_leave
from mrpo.driver.interruption import Interruption
from mrpo.record.phase import Phase
from mrpo.record.run_folder import RunFolder

pytestmark = pytest.mark.unit


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    return run


def config(**settings: Any) -> RunConfig:
    content = {
        "recipe": "mine",
        "model": {"path": "policy"},
        "data": {"train_files": ["train"], "val_files": ["val"], "train_batch_size": 4},
        "rewards": {"good": {"function": "rewards.py:good"}},
        "trainer": {"total_training_steps": 5},
    }
    return validate({**content, **settings})


def requested(grace: float) -> Interruption:
    return Interruption(grace, wall_clock=0.0)


def test_without_a_request_the_controller_is_waited_for(folder: RunFolder) -> None:
    assert _reason_to_leave(config(), folder, Interruption(), time.time()) is None
    assert not folder.stop_file.exists()


def test_a_request_before_the_first_step_ends_at_once(folder: RunFolder) -> None:
    reason = _reason_to_leave(config(), folder, requested(grace=60), time.time())
    assert reason == "by the time limit of 0 s, before the first step"


def test_a_request_in_a_step_is_passed_on_and_saving_waited_for(folder: RunFolder) -> None:
    began = time.time()
    folder.event(Phase.PLAN)
    assert _reason_to_leave(config(), folder, requested(grace=60), began) is None
    assert folder.stop_file.exists()
    reason = _reason_to_leave(config(), folder, requested(grace=0), began)
    assert reason == "not saved within the 0 s of interrupt.grace"


def test_the_plan_of_an_attempt_before_does_not_count(folder: RunFolder) -> None:
    folder.event(Phase.PLAN)
    reason = _reason_to_leave(config(), folder, requested(grace=60), time.time() + 1)
    assert reason == "by the time limit of 0 s, before the first step"


def test_a_controller_that_does_not_start_is_an_error(folder: RunFolder) -> None:
    impatient = config(watchdog={"warn_after": 1, "timeout": 2})
    long_ago = time.time() - 3
    with pytest.raises(RuntimeError, match=r"did not start within 2 s \(watchdog.timeout\)"):
        _reason_to_leave(impatient, folder, Interruption(), long_ago)
    folder.event(Phase.START_CONTROLLER)
    assert _reason_to_leave(impatient, folder, Interruption(), long_ago) is None


def test_a_failure_is_recorded_by_its_last_line(folder: RunFolder) -> None:
    folder.event(Phase.START_CONTROLLER)
    assert str(_failure(folder, ValueError("Traceback …\nValueError: no such reward\n"))).startswith("Traceback")
    assert (folder.events()[-1]["phase"], folder.events()[-1]["detail"]) == (Phase.FAILED, "ValueError: no such reward")


def test_what_the_watchdog_said_comes_before_the_death_it_caused(folder: RunFolder) -> None:
    folder.event(Phase.STUCK, detail="nothing has moved for 9 s: rollout")
    assert str(_failure(folder, RuntimeError("the actor died"))) == "nothing has moved for 9 s: rollout"
    assert folder.events()[-1]["detail"] == "nothing has moved for 9 s: rollout"
