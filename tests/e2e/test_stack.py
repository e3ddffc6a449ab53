"""The real stack: weights arrive, both placements run, and a run leaves what it promises."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from mrpo.checkpoint.store import CheckpointStore
from mrpo.record.phase import Phase
from mrpo.record.run_folder import RunFolder

pytestmark = pytest.mark.e2e

AGREEMENT = 2e-5
"""Largest difference between an engine's and the trainer's probability of a token, in float32. Old weights: 0.1, 1."""


@pytest.mark.parametrize("run_name", ["unequal_run", "colocated_run"])
def test_engine_and_trainer_agree_after_every_weight_update(run_name: str, request: pytest.FixtureRequest) -> None:
    run: RunFolder = request.getfixturevalue(run_name)
    for record in run.metrics():
        assert record["rollout/probs_diff/valid"] == 1
        assert record["rollout/probs_diff/max"] < AGREEMENT
        assert record["train/grad_norm"] > 0  # else every update would agree with its predecessor


def test_actors_have_processes_of_their_own(unequal_run: RunFolder) -> None:
    logs = {file.name.rpartition("-")[0] for file in unequal_run.logs.glob("*.*")}
    assert {"WorkerDict", "vLLMHttpServer", "SeededAgentLoopWorker", "Controller"} <= logs
    ranks = {file.stem for file in unequal_run.logs.glob("WorkerDict-*")}
    assert len(ranks) == 2


def test_two_reward_workers_score_in_processes_of_their_own(rounds_run: RunFolder, worker_reward: Path) -> None:
    scorers = set(worker_reward.with_name("pids").read_text().split())
    assert len(scorers) == 2
    assert not scorers & {file.stem.rpartition("-")[2] for file in rounds_run.logs.glob("[CSWv]*-*")}


def test_a_reward_that_is_not_applicable_is_excluded_and_never_zero(rounds_run: RunFolder) -> None:
    for record in rounds_run.metrics():
        assert record["reward/worker/mean"] is None
        assert (record["reward/worker/missing_share"], record["reward/worker/failed_share"]) == (1, 0)
        assert all(row["rewards"]["worker"] is None for row in rounds_run.read_rollouts(record["step"]))


def test_a_run_leaves_config_metrics_rollouts_report_and_events(unequal_run: RunFolder) -> None:
    config = yaml.safe_load(unequal_run.config.read_text())
    assert config["budget"]["method"] == "dynamo"
    assert config["algorithm"]["estimator"] == "gdpo"
    records = unequal_run.metrics()
    assert [record["step"] for record in records] == [1, 2, 3, 4, 5]
    for name in ("correct", "tagged", "short"):
        assert all(0 <= record[f"reward/{name}/mean"] <= 1 for record in records)
        assert all(record[f"reward/{name}/std"] >= 0 for record in records)
    assert unequal_run.png.stat().st_size > 10_000
    assert "reward" in unequal_run.html.read_text()
    assert unequal_run.events()[-1]["phase"] == Phase.DONE


def test_verls_tracking_logs_every_component(unequal_run: RunFolder, colocated_run: RunFolder) -> None:
    events = [file for file in unequal_run.path.rglob("*") if "tfevents" in file.name]
    assert events
    assert any(b"reward/tagged/std" in file.read_bytes() for file in events)
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


def test_validation_before_training_is_in_the_run_folder(unequal_run: RunFolder) -> None:
    files = list((unequal_run.path / "validation").glob("*.jsonl"))
    assert files
    row = json.loads(files[0].read_text().splitlines()[0])
    assert {"correct", "tagged", "short"} <= row.keys()
