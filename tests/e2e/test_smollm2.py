"""A real pretrained model: prepared from its package, and trained one small step."""

from __future__ import annotations

from pathlib import Path

import pytest

from mrpo.record.run_folder import RunFolder

from .conftest import mrpo

pytestmark = [pytest.mark.proof, pytest.mark.timeout(1500)]


def test_smollm2_is_prepared_and_trains_a_step(tmp_path: Path) -> None:
    done = mrpo(
        "train",
        "recipe=smollm2",
        f"run_dir={tmp_path / 'run'}",
        "data.train_batch_size=2",
        "budget.rollouts_per_prompt=4",
        "trainer.total_training_steps=1",
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    run = RunFolder(tmp_path / "run")
    record = run.metrics()[0]
    assert record["rollout/probs_diff/pearson"] > 0.99  # bfloat16 on both sides
    assert record["train/grad_norm"] > 0
    rows = run.read_rollouts(1)
    assert len(rows) == 8
    words = " ".join(row["response"] for row in rows).split()
    assert sum(word.isascii() for word in words) > 0.9 * len(words) > 18  # English, not noise
    assert all(0 <= row["rewards"]["positive"] <= 1 for row in rows)
