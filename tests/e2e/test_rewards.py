"""Rewards in a real run: models served by vLLM, faults of every kind, and each of them told apart."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, Qwen2ForSequenceClassification

from mrpo.record.run_folder import RunFolder

from .conftest import mrpo
from .faulty_rewards import CAUSES, is_rare

pytestmark = pytest.mark.e2e


def test_every_fault_is_counted_by_its_cause_and_costs_no_other_score(rounds_run: RunFolder) -> None:
    rows = [row for step in rounds_run.rollout_steps() for row in rounds_run.read_rollouts(step)]
    assert len(rows) == 16 * 4
    assert 0 < sum(is_rare(row["response"]) for row in rows) < 32
    for row in rows:
        rare = is_rare(row["response"])
        for name, cause in CAUSES.items():
            assert row["rewards"][name] == (None if rare else 1.0), (name, row.get("failures"), row["response"])
            assert row.get("failures", {}).get(name, "").startswith(cause if rare else "")
        assert row["rewards"]["abstains"] == (None if rare else 1.0)
        assert "abstains" not in row.get("failures", {})
        assert row["rewards"]["correct"] in (0.0, 1.0)
    last = rounds_run.metrics()[-1]
    seen = last["budget/rollouts"]
    for name, cause in CAUSES.items():
        assert last.get(f"reward/{name}/failed/{cause}", 0) == round(last[f"reward/{name}/failed_share"] * seen)


def test_two_reward_models_served_by_vllm_score_what_transformers_scores(
    rounds_run: RunFolder, judges: dict[str, Path]
) -> None:
    rows = rounds_run.read_rollouts(1)[:24]
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
        "trainer.val_before_train=false",
    )
    assert done.returncode == 1
    assert "reward 'broken' failed in 128 of 128 rollouts" in done.stderr
    assert "ZeroDivisionError" in done.stderr
    assert str(run.logs) in done.stderr
    assert len(done.stderr.splitlines()) < 15
    assert "ZeroDivisionError" in json.dumps(run.read_rollouts(1)[0]["failures"])
