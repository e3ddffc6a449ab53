"""The real stack in short runs: weights arrive, both placements run, reward workers are processes of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from mrpo.checkpoint.store import CheckpointStore
from mrpo.record.run_folder import RunFolder

from .conftest import require_agreement

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("run_name", ["filtered_run", "colocated_run"])
def test_engine_and_trainer_agree_after_every_weight_update(run_name: str, request: pytest.FixtureRequest) -> None:
    require_agreement(request.getfixturevalue(run_name))


def test_two_reward_workers_score_in_processes_of_their_own(rounds_run: RunFolder, worker_reward: Path) -> None:
    scorers = set(worker_reward.with_name("pids").read_text().split())
    assert len(scorers) == 2
    assert not scorers & {file.stem.rpartition("-")[2] for file in rounds_run.logs.glob("[CSWv]*-*")}


def test_a_reward_that_is_not_applicable_is_excluded_and_never_zero(rounds_run: RunFolder) -> None:
    for record in rounds_run.metrics():
        assert record["reward/worker/mean"] is None
        assert (record["reward/worker/missing_share"], record["reward/worker/failed_share"]) == (1, 0)
        assert all(row["rewards"]["worker"] is None for row in rounds_run.read_rollouts(record["step"]))


def test_verls_tracking_logs_every_component_to_wandb(colocated_run: RunFolder) -> None:
    offline = list(colocated_run.path.rglob("*.wandb"))
    assert offline
    assert any(b"reward/tagged/std" in file.read_bytes() for file in offline)


def test_colocated_placement_trains_with_another_estimator_a_reference_model_and_mini_batches(
    colocated_run: RunFolder,
) -> None:
    records = colocated_run.metrics()
    assert len(records) == 2
    assert all("train/kl_loss" in record for record in records)
    assert CheckpointStore(colocated_run.checkpoints).load(2).manifest.metrics
