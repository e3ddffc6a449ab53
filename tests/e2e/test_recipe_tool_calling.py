"""The tool_calling recipe on a CPU: real rows, its rewards and its benchmarks, in a step of the real stack."""

from __future__ import annotations

from pathlib import Path

import pytest

from mrpo.record.run_folder import RunFolder
from tests.unit.rewards.library.rows import real_file

from .conftest import train_on_real_rows

pytestmark = [pytest.mark.proof, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    source = real_file("toolrl/dataset/rlla_4k_raw/rlla_sft.json").parents[3]
    return train_on_real_rows("tool_calling/cpu", source, tmp_path_factory.mktemp("tool_calling") / "run")


def test_every_reward_scores_real_rows(run: RunFolder) -> None:
    bounds = {"correct": (-3, 3), "format": (0, 1), "length": (0, 1)}
    rows = run.read_rollouts(1)
    assert len(rows) == 32
    for name, (low, high) in bounds.items():
        assert all(low <= row["rewards"][name] <= high for row in rows)
    assert all(row["rewards"]["accuracy"] is None for row in rows)  # of benchmarks, not of training rows
    assert all("failures" not in row for row in rows)
    assert "<tool_call>" in rows[0]["prompt"]


def test_a_sloppy_model_earns_each_reward_sometimes(run: RunFolder) -> None:
    rows = run.read_rollouts(1)
    for name in ("correct", "format", "length"):
        assert len({row["rewards"][name] for row in rows}) > 1, name
    assert any(row["advantage"] for row in rows)


def test_the_run_leaves_metrics_and_learns_from_every_reward(run: RunFolder) -> None:
    records = run.metrics()
    assert [record["step"] for record in records] == [1]
    for record in records:
        assert record["train/grad_norm"] > 0
        assert record["rollout/probs_diff/max"] < 1e-3
        for name in ("correct", "format", "length"):
            assert record[f"reward/{name}/failed_share"] == 0
            assert record[f"reward/{name}/mean"] is not None


def test_benchmarks_are_judged_by_their_own_rule(run: RunFolder) -> None:
    judged = {name for name in run.metrics()[-1] if name.endswith("/accuracy/mean@1")}
    for benchmark in ("bfcl/multiple", "bfcl/irrelevance", "api_bank/level-3"):
        assert any(benchmark in name for name in judged), judged
    assert not any("/rlla/" in name for name in judged)


def test_prepared_files_are_in_the_cache(run: RunFolder) -> None:
    log = Path(run.logs / "prepare.log")
    if log.exists():  # not if an earlier run had prepared them
        assert "train.parquet: 8 of rlla" in log.read_text()
