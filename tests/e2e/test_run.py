"""What a run is made of and what it leaves: processes, weights that arrive, config, metrics, report, validation."""

from __future__ import annotations

import json
import re
from pathlib import Path
from statistics import fmean

import pytest
import yaml

from mrpo.evaluation.responses import Sampling, respond
from mrpo.observe.before_after import before_after
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


def test_validations_are_in_the_run_folder_with_the_one_before_training(unequal_run: RunFolder) -> None:
    assert unequal_run.validation_steps() == [0, 2, 4, STEPS]
    for step in unequal_run.validation_steps()[1:]:
        rows, (metrics,) = unequal_run.read_validation(step), [m for m in unequal_run.metrics() if m["step"] == step]
        for reward in ("correct", "tagged", "short"):
            mean = fmean(row["rewards"][reward] for row in rows)
            assert mean == pytest.approx(metrics[f"validation/val-aux/quickstart/{reward}/mean@1"])


def test_the_report_lays_the_first_validation_beside_the_last(unequal_run: RunFolder) -> None:
    found = before_after(unequal_run)
    assert found is not None
    assert (found.first_step, found.last_step) == (0, STEPS)
    change = {line.measure: line.difference for line in found.lines}
    assert change["correct"] is not None
    assert change["correct"].value > 0
    assert "Before and after" in unequal_run.html.read_text()


def test_sampling_by_transformers_answers_as_the_engine_did(unequal_run: RunFolder, quickstart: Path) -> None:
    """Greedy, in float32: the same chat template, the same weights, the same end of a response."""
    rows = unequal_run.read_validation(0)
    found = respond(str(quickstart / "model"), [row["prompt"].strip() for row in rows], Sampling(max_tokens=48))
    same = [(a.text, a.tokens) == (row["response"], row["tokens"]) for (a,), row in zip(found, rows, strict=True)]
    assert sum(same) >= len(rows) - 1  # two likeliest tokens may be equal to the last bit


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
