"""What a dead attempt has logged after the checkpoint is void in TensorBoard once the next attempt logs."""

from __future__ import annotations

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from verl.utils.tracking import Tracking

from mrpo.verl_seam.trackers import begin_at

pytestmark = pytest.mark.unit


def attempt(number: int, steps: range) -> None:
    tracking = Tracking("project", "run", ["tensorboard"])
    for step in steps:
        if step == steps.start:
            begin_at(tracking, step)
        tracking.log({"reward/correct/mean": float(number)}, step)
    tracking.finish()


def test_each_step_is_shown_once_as_it_ran_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSORBOARD_DIR", str(tmp_path))
    monkeypatch.setattr("time.time", iter(range(1_000_000, 2_000_000)).__next__)  # files are named by the second
    attempt(1, range(1, 8))
    attempt(2, range(6, 9))
    attempt(3, range(6, 10))
    shown = EventAccumulator(str(tmp_path))
    shown.Reload()
    found = [(scalar.step, scalar.value) for scalar in shown.Scalars("reward/correct/mean")]
    assert found == [(step, 1.0) for step in range(1, 6)] + [(step, 3.0) for step in range(6, 10)]
    assert len(list(tmp_path.glob("*tfevents*"))) == 3
