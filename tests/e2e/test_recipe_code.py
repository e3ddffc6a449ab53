"""The code recipe on a CPU, on LeetCode's problems and on its own: run in the sandbox, trained with the real stack."""

from __future__ import annotations

from pathlib import Path

import pytest

from mrpo.record.run_folder import RunFolder
from tests.unit.rewards.library.rows import real_file, require_sandbox

from .conftest import mrpo

pytestmark = pytest.mark.proof


@pytest.mark.timeout(1500)
def test_programs_are_run_scored_and_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On LeetCode's problems, or where they aren't at hand on the recipe's own."""
    require_sandbox()
    try:
        monkeypatch.setenv("MRPO_DATA", str(real_file("deepscaler_rllm/train/code/leetcode.json").parents[3]))
        variant = "cpu"
    except pytest.skip.Exception:
        variant = "cpu_sample"
    done = mrpo(
        "train",
        f"recipe=code/{variant}",
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
        for name in ("passed", "short", "bugs"):
            assert record[f"reward/{name}/failed_share"] == record[f"reward/{name}/missing_share"] == 0
    rows = [row for step in run.rollout_steps() for row in run.read_rollouts(step)]
    assert len(rows) == 32
    passed, short, bugs = ([row["rewards"][name] for row in rows] for name in ("passed", "short", "bugs"))
    assert len(set(passed)) > 1
    assert set(short) == {0, 1}
    assert len(set(bugs)) > 1
    assert all(0 <= p <= 1 and -1 <= b <= 0 and p - b <= 1 for p, b in zip(passed, bugs, strict=True))
    assert all("```python" in row["response"] for row in rows if row["rewards"]["passed"])
    assert any(name.startswith("validation/") for name in records[-1])
