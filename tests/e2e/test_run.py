"""What a run is made of and what it leaves: processes, weights that arrive, config, metrics, report, validation."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from mrpo.record.phase import Phase
from mrpo.record.run_folder import RunFolder

from .conftest import STEPS, require_agreement

pytestmark = pytest.mark.e2e


def test_engine_and_trainer_agree_after_every_weight_update(unequal_run: RunFolder) -> None:
    require_agreement(unequal_run)


def test_actors_have_processes_of_their_own(unequal_run: RunFolder) -> None:
    logs = {file.name.rpartition("-")[0] for file in unequal_run.logs.glob("*.*")}
    assert {"WorkerDict", "vLLMHttpServer", "SeededAgentLoopWorker", "Controller"} <= logs
    ranks = {file.stem for file in unequal_run.logs.glob("WorkerDict-*")}
    assert len(ranks) == 2


def test_a_run_leaves_config_metrics_rollouts_report_and_events(unequal_run: RunFolder) -> None:
    config = yaml.safe_load(unequal_run.config.read_text())
    assert config["budget"]["method"] == "dynamo"
    assert config["algorithm"]["estimator"] == "gdpo"
    records = unequal_run.metrics()
    assert [record["step"] for record in records] == list(range(1, STEPS + 1))
    for name in ("correct", "tagged", "short"):
        assert all(0 <= record[f"reward/{name}/mean"] <= 1 for record in records)
        assert all(record[f"reward/{name}/std"] >= 0 for record in records)
    assert unequal_run.png.stat().st_size > 10_000
    assert "reward" in unequal_run.html.read_text()
    assert unequal_run.events()[-1]["phase"] == Phase.DONE


def test_the_policy_has_learned(unequal_run: RunFolder) -> None:
    validations = [
        m["validation/val-core/quickstart/total/mean@1"] for m in unequal_run.metrics() if m["step"] % 2 == 0
    ]
    assert validations[-1] > validations[0] + 0.4  # one run: 1.63 at step 2, 2.67 at step 6, of 3


def test_verls_tracking_logs_every_component_to_tensorboard(unequal_run: RunFolder) -> None:
    events = [file for file in unequal_run.path.rglob("*") if "tfevents" in file.name]
    assert events
    assert any(b"reward/tagged/std" in file.read_bytes() for file in events)


def test_validation_before_training_is_in_the_run_folder(unequal_run: RunFolder) -> None:
    files = list((unequal_run.path / "validation").glob("*.jsonl"))
    assert files
    row = json.loads(files[0].read_text().splitlines()[0])
    assert {"correct", "tagged", "short"} <= row.keys()


def test_it_listens_on_loopback_only_and_on_what_the_docs_list(unequal_run: RunFolder) -> None:
    listening = json.loads(unequal_run.path.with_name("watched.json").read_text())["listening"]
    assert {address.removeprefix("::ffff:") for _, address in listening} == {"127.0.0.1"}
    documented = Path(__file__).parents[2].joinpath("docs", "security.md").read_text()
    listed = set(re.findall(r"^\| `(\w+)` \|", documented, re.MULTILINE))
    assert {name for name, _ in listening} <= listed
    assert {"gcs_server", "raylet", "TransferQueueController", "vLLMHttpServer", "WorkerDict"} <= {
        name for name, _ in listening
    }


def test_nothing_of_it_is_left_outside_the_run_folder(unequal_run: RunFolder) -> None:
    watched = json.loads(unequal_run.path.with_name("watched.json").read_text())
    assert watched["private"] == ["0o40700"]
    assert watched["left"] == []
