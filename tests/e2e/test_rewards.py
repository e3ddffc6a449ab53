"""Rewards in a real run: models served by vLLM, faults of every kind, and each of them told apart."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForSequenceClassification

from mrpo.record.run_folder import RunFolder

from .conftest import Train, mrpo

pytestmark = pytest.mark.e2e

FAULTS = """
import ctypes, os, time, zlib

def rarely(response):
    return zlib.crc32(response.encode()) % 16 == 0

def hangs(prompt, response, ground_truth, extra):
    if rarely(response):
        ctypes.PyDLL(None).sleep(600)  # in C, holding the interpreter's lock
    return 1.0

async def blocks(prompt, response, ground_truth, extra):
    if rarely(response):
        time.sleep(600)
    return 1.0

def exits(prompt, response, ground_truth, extra):
    if rarely(response):
        os._exit(3)
    return 1.0

def gives_nan(prompt, response, ground_truth, extra):
    return float("nan") if rarely(response) else 1.0

def abstains(prompt, response, ground_truth, extra):
    return None if rarely(response) else 1.0
"""
CAUSES = {"hangs": "timeout", "blocks": "timeout", "exits": "crash", "gives_nan": "not finite"}


@pytest.fixture(scope="module")
def judges(quickstart: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two small sequence classifiers with the quickstart's tokenizer and different weights."""
    tokenizer = AutoTokenizer.from_pretrained(quickstart / "model")
    folders = {}
    for seed, name in enumerate(("helpful", "harmless")):
        torch.manual_seed(seed)
        config = Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=128,  # heads of 32: the least that vLLM attends to on a CPU
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=256,
            initializer_range=0.2,
            pad_token_id=tokenizer.pad_token_id,
            num_labels=1,  # type: ignore[call-arg]
        )
        folders[name] = tmp_path_factory.mktemp(name)
        Qwen2ForSequenceClassification(config).save_pretrained(folders[name])
        tokenizer.save_pretrained(folders[name])
    return folders


@pytest.fixture(scope="module")
def faulty_run(train: Train, judges: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Two steps with two reward models, and with rewards that go wrong for one response in sixteen."""
    file = tmp_path_factory.mktemp("faults") / "faults.py"
    file.write_text(FAULTS)
    faults = [f"rewards.{name}={{function: '{file}:{name}', timeout: 3}}" for name in (*CAUSES, "abstains")]
    models = [
        f"rewards.{name}.model={{path: {folder}, dtype: float32, max_model_len: 256}}"
        for name, folder in judges.items()
    ]
    return train(*faults, *models, "scoring.max_failure_rate=0.5", "trainer.total_training_steps=2")


def is_rare(response: str) -> bool:
    namespace: dict = {}
    exec(FAULTS, namespace)
    return namespace["rarely"](response)


def test_every_fault_is_counted_by_its_cause_and_costs_no_other_score(faulty_run: RunFolder) -> None:
    rows = [row for step in faulty_run.rollout_steps() for row in faulty_run.read_rollouts(step)]
    assert len(rows) == 256
    assert 0 < sum(is_rare(row["response"]) for row in rows) < 128
    for row in rows:
        rare = is_rare(row["response"])
        for name, cause in CAUSES.items():
            assert row["rewards"][name] == (None if rare else 1.0), (name, row.get("failures"), row["response"])
            assert row.get("failures", {}).get(name, "").startswith(cause if rare else "")
        assert row["rewards"]["abstains"] == (None if rare else 1.0)
        assert "abstains" not in row.get("failures", {})
        assert row["rewards"]["correct"] in (0.0, 1.0)
    last = faulty_run.metrics()[-1]
    for name, cause in CAUSES.items():
        assert last.get(f"reward/{name}/failed/{cause}", 0) == round(last[f"reward/{name}/failed_share"] * 128)


def test_two_reward_models_served_by_vllm_score_what_transformers_scores(
    faulty_run: RunFolder, judges: dict[str, Path]
) -> None:
    rows = faulty_run.read_rollouts(1)[:24]
    for name, folder in judges.items():
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = Qwen2ForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
        for row in rows:
            question = row["prompt"].strip()
            chat = [{"role": "user", "content": question}, {"role": "assistant", "content": row["response"]}]
            ids = tokenizer.apply_chat_template(chat, tokenize=True, return_dict=False)
            with torch.no_grad():
                expected = model(torch.tensor([ids])).logits[0, -1].item()
            assert row["rewards"][name] == pytest.approx(expected, abs=1e-3)
    assert len({row["rewards"]["helpful"] for row in rows}) > 3


def test_a_reward_that_cannot_be_loaded_ends_the_run_before_the_first_step(tmp_path: Path, quickstart: Path) -> None:
    (tmp_path / "broken.py").write_text("import no_such_thing\n\ndef broken(prompt, response, truth, extra): ...\n")
    run = tmp_path / "run"
    done = mrpo("train", "recipe=quickstart", f"run_dir={run}", f"rewards.broken.function={tmp_path}/broken.py:broken")
    assert done.returncode == 1
    assert "broken" in done.stderr
    assert "No module named 'no_such_thing'" in done.stderr
    assert not RunFolder(run).metrics()


def test_a_reward_that_fails_too_often_ends_the_run_with_its_samples(tmp_path: Path, quickstart: Path) -> None:
    (tmp_path / "broken.py").write_text("def broken(prompt, response, truth, extra):\n    return 1 / 0\n")
    run = RunFolder(tmp_path / "run")
    done = mrpo(
        "train",
        "recipe=quickstart",
        f"run_dir={run.path}",
        f"rewards.broken.function={tmp_path}/broken.py:broken",
        "trainer.total_training_steps=2",
    )
    assert done.returncode == 1
    assert "reward 'broken' failed in 128 of 128 rollouts" in done.stderr
    assert "ZeroDivisionError" in done.stderr
    assert str(run.logs) in done.stderr
    assert len(done.stderr.splitlines()) < 15
    assert "ZeroDivisionError" in json.dumps(run.read_rollouts(1)[0]["failures"])
