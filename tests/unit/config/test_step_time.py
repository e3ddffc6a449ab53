"""What a step would take, from tokens a second: the arithmetic, and what a run says of itself."""

from __future__ import annotations

from typing import Any

import pytest

from mrpo.config.load import validate
from mrpo.config.run import RunConfig
from mrpo.config.step_time import Speeds, measured, step_times

pytestmark = pytest.mark.unit


def config(**rollout: Any) -> RunConfig:
    return validate(
        {
            "recipe": "test",
            "model": {"path": "m"},
            "data": {"train_files": ["t"], "val_files": ["v"], "train_batch_size": 8, "max_response_length": 100},
            "rewards": {"correct": {"function": "r.py:c"}},
            "budget": {"rollouts_per_prompt": 4},
            "rollout": rollout,
        }
    )


def test_a_step_ahead_takes_the_longer_of_its_two_parts() -> None:
    speeds = Speeds(rollout=160.0, train=240.0, between=0.5, response=50.0, prompt=10.0)
    times = {name: quantity.value for name, quantity in step_times(config(replicas=2), speeds).items()}
    assert times["rollouts"] == 32 * 50 / 160 / 2
    assert times["training"] == 32 * 60 / 240 / 2
    assert times["step, rollout.ahead=0"] == 5.0 + 4.0 + 0.5
    assert times["step, rollout.ahead=1"] == 5.0 + 0.5
    assert times["engines that balance"] == 3  # 10 s of one engine's work in 4 s


def test_without_lengths_every_rollout_counts_as_a_longest_and_says_so() -> None:
    quantity = step_times(config(), Speeds(rollout=100.0, train=100.0))["rollouts"]
    assert quantity.value == 32 * 100 / 100
    assert "at most" in quantity.formula


@pytest.mark.parametrize("ahead", [0, 1])
def test_a_runs_own_speed_gives_its_own_step_time(ahead: int) -> None:
    sampling, training, between = 6.0, 3.0, 0.5
    step = max(sampling, training) + between if ahead else sampling + training + between
    record = {
        "time/step": step,
        "time/engine_idle": step - sampling,
        "time/rank_idle": step - training - 0.4,
        "time/update_weights": 0.4,
        "time/advantage": 0.1,
        "rollout/response_length/mean": 50.0,
        "train/tokens": 32 * 60,
    }
    last = {**record, "time/step": training, "time/engine_idle": training}  # nothing is left to sample
    speeds = measured(config(ahead=ahead), [record] * 5 + [last] * 9)
    assert speeds is not None
    assert speeds.prompt == pytest.approx(10.0)
    assert step_times(config(), speeds)[f"step, rollout.ahead={ahead}"].value == pytest.approx(step)


def test_a_run_that_cannot_tell_says_nothing() -> None:
    assert measured(config(), [{"time/step": 1.0}] * 9) is None
    assert measured(config(placement="colocated"), []) is None
