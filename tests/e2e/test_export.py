"""What a run leaves is what it trained, for somebody who has transformers, or vLLM, and nothing of ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from safetensors.torch import load_file

from mrpo.exit_code import ExitCode
from mrpo.export.origin import step_of_export
from mrpo.record.phase import Phase
from mrpo.record.run_folder import RunFolder

from .conftest import SECONDS, STEPS, mrpo

pytestmark = pytest.mark.timeout(2400)  # the first test that needs a run waits for it

BEYOND_THE_RUN = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}


def answers_of(script: str, model: Path, run: RunFolder, elsewhere: Path) -> dict[str, Any]:
    """What a program outside of the package makes of the model and the run's validation prompts."""
    config = yaml.safe_load(run.config.read_text())
    arguments = [str(model), config["data"]["val_files"][0], str(config["data"]["max_response_length"])]
    command = [sys.executable, str(Path(__file__).with_name(script)), *arguments]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        cwd=elsewhere,
        env=os.environ | BEYOND_THE_RUN,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (answer,) = (line for line in done.stdout.splitlines() if line.startswith("{"))  # vLLM logs there, too
    return json.loads(answer)


def last_validation(run: RunFolder, step: int) -> dict[str, str]:
    """The engine's greedy answers, by prompt."""
    return {row["prompt"]: row["response"] for row in run.read_validation(step)}


@pytest.mark.e2e
def test_plain_transformers_answers_as_the_last_validation_did(unequal_run: RunFolder, tmp_path: Path) -> None:
    phases = [event["phase"] for event in unequal_run.events()]
    assert phases[phases.index(Phase.DONE) - 1] == Phase.EXPORT
    assert step_of_export(unequal_run.model) == STEPS
    said = answers_of("plain_transformers.py", unequal_run.model, unequal_run, tmp_path)
    assert said["dtype"] == "torch.float32"
    expected = last_validation(unequal_run, STEPS)
    assert said["answers"] == expected
    assert len(set(expected.values())) > 3  # of a model that had learned nothing all would be alike
    assert 0 < said["rounded"] < 0.2


@pytest.mark.e2e
def test_the_card_tells_of_the_run(unequal_run: RunFolder) -> None:
    card: Any = ModelCard.load(unequal_run.model / "README.md")
    measured = {result.metric_name: result.metric_value for result in card.data.eval_results or []}
    last = unequal_run.metrics()[-1]
    for reward in ("correct", "tagged", "short"):
        (recorded,) = (v for k, v in last.items() if k.startswith("validation/") and k.endswith(f"/{reward}/mean@1"))
        assert measured[reward] == pytest.approx(recorded, abs=1e-6)
    assert "before training" in card.text
    assert "mrpo train recipe=quickstart" in card.text
    assert str(unequal_run.path) not in card.content


@pytest.mark.e2e
def test_another_placement_and_type_are_exported_by_the_command(colocated_run: RunFolder, tmp_path: Path) -> None:
    words = ["export", str(colocated_run.path), "step=2", "--out", str(tmp_path / "model"), "--dtype", "bfloat16"]
    done = mrpo(*words)
    assert done.returncode == ExitCode.DONE, done.stderr
    own, rounded = (load_file(folder / "model.safetensors") for folder in (colocated_run.model, tmp_path / "model"))
    assert own.keys() == rounded.keys()
    assert all((own[name].bfloat16() == tensor).all() for name, tensor in rounded.items())
    assert mrpo(*words).returncode == ExitCode.BAD_INPUT  # it is there


@pytest.mark.proof
def test_vllm_serves_a_trained_quickstart(unequal_run: RunFolder, tmp_path: Path) -> None:
    said = answers_of("plain_vllm.py", unequal_run.model, unequal_run, tmp_path)
    assert said["answers"] == last_validation(unequal_run, STEPS)
    assert said["log_probs"] < 1e-4  # between vLLM's and transformers'


@pytest.mark.proof
def test_smollm2_with_its_tied_embeddings_is_served_and_answers_as_validated(tmp_path: Path) -> None:
    done = mrpo(
        "train",
        "recipe=smollm2",
        f"run_dir={tmp_path / 'run'}",
        "model.dtype=float32",
        "rollout.dtype=float32",
        "data.train_batch_size=2",
        "budget.rollouts_per_prompt=4",
        "trainer.total_training_steps=1",
        "trainer.test_freq=1",
        timeout=2100,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    run = RunFolder(tmp_path / "run")
    assert "lm_head.weight" not in load_file(run.model / "model.safetensors")
    expected = last_validation(run, 1)
    said = answers_of("plain_vllm.py", run.model, run, tmp_path)
    assert said["log_probs"] < 1e-3
    alike = sum(said["answers"][prompt] == answer for prompt, answer in expected.items())
    assert alike >= 0.9 * len(expected)
