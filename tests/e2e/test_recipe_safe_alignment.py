"""The safe_alignment recipe on a CPU: real prompts and two served reward models, in a step of the real stack."""

from __future__ import annotations

import pytest

from mrpo.record.run_folder import RunFolder
from tests.unit.rewards.library.rows import real_file

from .conftest import train_on_real_rows

pytestmark = [pytest.mark.proof, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    source = real_file("gd2po_safe_alignment/alpaca_prompt_only/train.parquet").parents[2]
    return train_on_real_rows("safe_alignment/cpu", source, tmp_path_factory.mktemp("safe_alignment") / "run")


def test_both_served_models_and_the_length_score_every_rollout(run: RunFolder) -> None:
    rows = run.read_rollouts(1)
    assert len(rows) == 32
    assert all("failures" not in row for row in rows)
    for name in ("helpful", "harmless"):
        assert len({row["rewards"][name] for row in rows}) > 16, name
    assert {row["rewards"]["length"] for row in rows} <= {0.0, 1.0}
    assert any(row["rewards"]["helpful"] != -row["rewards"]["harmless"] for row in rows)


def test_the_run_leaves_metrics_of_every_reward(run: RunFolder) -> None:
    records = run.metrics()
    assert [record["step"] for record in records] == [1]
    for record in records:
        assert record["train/grad_norm"] > 0
        for name in ("helpful", "harmless", "length"):
            assert record[f"reward/{name}/failed_share"] == 0
            assert record[f"reward/{name}/mean"] is not None


def test_every_data_set_is_validated(run: RunFolder) -> None:
    last = run.metrics()[-1]
    for source in ("alpaca", "hh_rlhf", "pku_saferlhf"):
        assert any(f"/{source}/helpful/mean@" in name for name in last), sorted(last)
        assert any(f"/{source}/harmless/mean@" in name for name in last)
