"""math_length/cpu, prepared from real rows and trained with the real stack."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from mrpo.record.run_folder import RunFolder
from tests.unit.rewards.library.rows import real_file

from .conftest import mrpo

pytestmark = pytest.mark.proof


@pytest.mark.timeout(1500)
@pytest.mark.skipif(importlib.util.find_spec("math_verify") is None, reason="math-verify isn't installed")
def test_mathematics_in_few_tokens_trains_and_validates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MRPO_DATA", str(real_file("deepscaler_rllm/train/math/math.json").parents[3]))
    done = mrpo(
        "train",
        "recipe=math_length/cpu",
        f"run_dir={tmp_path / 'run'}",
        "trainer.total_training_steps=1",
        "trainer.test_freq=1",
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    run = RunFolder(tmp_path / "run")
    records = run.metrics()
    assert [record["step"] for record in records] == [1]
    for record in records:
        assert record["train/grad_norm"] > 0
        for name in ("correct", "short"):
            assert record[f"reward/{name}/failed_share"] == record[f"reward/{name}/missing_share"] == 0
            assert record[f"reward/{name}/std"] > 0
    rows = [row for step in run.rollout_steps() for row in run.read_rollouts(step)]
    assert len(rows) == 64
    assert all(set(row["rewards"]) == {"correct", "short"} for row in rows)
    assert all((row["tokens"] <= 24) == row["rewards"]["short"] for row in rows)
    right = [row for row in rows if row["rewards"]["correct"]]
    assert right
    assert all("\\boxed{" in row["response"] for row in right)
    validated = " ".join(name for name in records[-1] if name.startswith("validation/"))
    assert "aime" in validated
    assert "math500" in validated
