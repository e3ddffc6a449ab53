"""The history that group statistics lean on: as rewards count, in a step, and through a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mrpo.checkpoint.plain import load_state, save_state
from mrpo.config.load import validate
from mrpo.errors import ConfigError
from mrpo.record.run_folder import RunFolder
from mrpo.rewards.outcome import Outcome
from mrpo.rewards.wire import decode, encode
from mrpo.step.step import run_step

from .faulty_seam import FaultySeam
from .test_step import parts, run_content

pytestmark = pytest.mark.unit

SHRINKAGE = {"estimator": "gdpo", "shrinkage": {"strength": 4, "decay": 0.9}}
ONES: dict[str, Any] = {"low": 1, "high": 1, "rollouts_per_prompt": 1}


class NowAndThenSeam(FaultySeam):
    """A prompt is right in every third step, and never short."""

    def _rewards(self, number: int, sample: int, n: int) -> dict[str, Any]:
        return decode(encode({"correct": Outcome(float((number + self.step) % 3 == 0)), "short": Outcome(0.0)}))


def test_from_the_second_time_on_a_prompt_alone_has_an_advantage(tmp_path: Path) -> None:
    """Sixteen prompts, four a step, one rollout of each: the first four steps teach nothing, the others do."""
    run = parts(NowAndThenSeam(), tmp_path, algorithm=SHRINKAGE, budget=ONES)
    sizes = [run_step(number, run)["advantage/abs_max"] for number in range(1, 9)]
    assert sizes[:4] == [0, 0, 0, 0]
    assert min(sizes[5:]) > 0
    run.writer.settle()
    assert any(row["advantage"] for row in RunFolder(tmp_path).read_rollouts(8))


def test_without_shrinkage_nothing_is_kept_for_it(tmp_path: Path) -> None:
    run = parts(FaultySeam(), tmp_path, budget=ONES)
    assert run_step(1, run)["advantage/abs_max"] == 0
    assert run.budget.state_dict().keys() == {"history"}


def test_a_resumed_run_leans_on_exactly_what_the_run_would_have(tmp_path: Path) -> None:
    def begin(name: str) -> tuple[FaultySeam, Any]:
        seam = NowAndThenSeam()
        (tmp_path / name).mkdir()
        return seam, parts(seam, tmp_path / name, algorithm=SHRINKAGE, budget=ONES)

    (seam, whole), (other, resumed) = begin("whole"), begin("resumed")
    for number in range(1, 7):
        run_step(number, whole)
    save_state(tmp_path / "budget.npz", whole.budget.state_dict())
    save_state(tmp_path / "position.npz", whole.position.state_dict())
    resumed.budget.load_state_dict(load_state(tmp_path / "budget.npz"))
    resumed.position.load_state_dict(load_state(tmp_path / "position.npz"))
    other.weights.weights, other.engine_weights = seam.weights.weights, seam.engine_weights
    for number in range(7, 11):
        run_step(number, whole)
        run_step(number, resumed)
    for run in (whole, resumed):
        run.writer.settle()
    for number in range(7, 11):
        rows = [RunFolder(tmp_path / name).read_rollouts(number) for name in ("whole", "resumed")]
        assert [row["advantage"] for row in rows[0]] == [row["advantage"] for row in rows[1]]
        assert any(row["advantage"] for row in rows[0])


def test_a_checkpoint_from_before_begins_without_history(tmp_path: Path) -> None:
    before = parts(FaultySeam(), tmp_path, budget=ONES)
    run_step(1, before)
    after = parts(FaultySeam(), tmp_path, algorithm=SHRINKAGE, budget=ONES)
    after.budget.load_state_dict(before.budget.state_dict())
    assert after.budget.baseline is not None
    assert len(after.budget.baseline.history) == 0
    assert len(after.budget.history) == 4


def test_it_holds_rewards_as_they_count(tmp_path: Path) -> None:
    """short counts only where correct is 1."""
    rewards = {"correct": {"function": "r.py:c"}, "short": {"function": "r.py:s", "requires": {"correct": 1}}}
    run = parts(FaultySeam(), tmp_path, rewards=rewards, algorithm=SHRINKAGE, budget={"rollouts_per_prompt": 8})
    run_step(1, run)
    assert run.budget.baseline is not None
    counted, raw = run.budget.baseline.history, run.budget.history
    prompts = list(counted.state_dict()["ids"])
    found, given = counted.evidence(prompts).mean_GC, raw.evidence(prompts).mean_GC
    assert (found[:, 0] == given[:, 0]).all()
    assert (found[:, 1] < given[:, 1]).any()
    assert torch.from_numpy(found[:, 2]).tolist() == pytest.approx((found[:, 0] + found[:, 1]).tolist())


def test_dynamic_sampling_beside_it_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"budget\.filter_groups: given advantage with algorithm\.shrinkage"):
        validate(run_content(algorithm=SHRINKAGE, budget={"filter_groups": "advantage"}))
