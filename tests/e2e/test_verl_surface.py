"""What verl's actor can do beside the default: each setting trains, engines and ranks agree, and none is ignored.

Two updates a step at a learning rate that moves the policy far, so that ratios leave 1 and clipping has work to do. All
runs have the same seed and are deterministic: a setting that reached nobody would leave the plain run's weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from mrpo.compare.grid import cells_of
from mrpo.config.policy_loss import policy_losses
from mrpo.record.run_folder import RunFolder

from .conftest import SECONDS, Once, mrpo, require_agreement

pytestmark = [pytest.mark.proof, pytest.mark.timeout(4 * SECONDS)]
LOSS = "verl.actor_rollout_ref.actor.policy_loss"
PLAIN = {"actor.learning_rate": 3e-3}
SETTINGS: dict[str, dict[str, Any]] = {
    "entropy bonus": {"actor.entropy_coeff": 0.1},
    "several epochs": {"actor.ppo_epochs": 2},
    "clip-higher": {"actor.clip_ratio_high": 0.28},
    **{mode: {"actor.loss_agg_mode": mode} for mode in ("seq-mean-token-sum", "seq-mean-token-mean")},
    "seq-mean-token-sum-norm": {"actor.loss_agg_mode": "seq-mean-token-sum-norm"},
    **{
        name: {f"{LOSS}.loss_mode": name} | ({f"{LOSS}.dro_beta": 0.1} if name == "dro" else {})
        for name in policy_losses()
        if name not in ("vanilla", "bypass_mode")
    },
}
AS_PLAIN: dict[str, dict[str, Any]] = {
    "tensor parallel": {"rollout.tensor_model_parallel_size": 2},
    "unmerged adapter, colocated": {"model.lora": {"rank": 8, "merge": False}, "rollout.placement": "colocated"},
}
"""What the plain run's weights say nothing about: sums in another order, and other parameters."""
COMMON = (
    "recipe=quickstart",
    "data.train_batch_size=8",
    "actor.ppo_mini_batch_size=4",
    "budget.rollouts_per_prompt=8",
    "trainer.total_training_steps=2",
    "trainer.determinism=strict",
    "trainer.test_freq=-1",
    "trainer.val_before_train=false",
)


@pytest.fixture(scope="module")
def runs(quickstart: Path, once: Once) -> Mapping[str, RunFolder]:
    blocks = {"plain": PLAIN, **{name: PLAIN | more for name, more in (SETTINGS | AS_PLAIN).items()}}

    def make(folder: Path) -> None:
        (folder / "grid.yaml").write_text(yaml.safe_dump(list(blocks.values())))
        done = mrpo("compare", *COMMON, str(folder / "grid.yaml"), "--out", str(folder / "out"), timeout=4 * SECONDS)
        (folder / "told.txt").write_text(done.stdout + done.stderr)

    folder = once("surface", make)
    cells = cells_of([*COMMON, str(folder / "grid.yaml")])
    return {name: RunFolder(folder / "out" / "cells" / cell.name) for name, cell in zip(blocks, cells, strict=True)}


def weights(run: RunFolder) -> bytes:
    return (run.model / "model.safetensors").read_bytes()


@pytest.mark.parametrize("name", ["plain", *SETTINGS, *AS_PLAIN])
def test_it_trains_and_engines_and_ranks_agree(name: str, runs: Mapping[str, RunFolder]) -> None:
    assert len(runs[name].metrics()) == 2
    require_agreement(runs[name])


@pytest.mark.parametrize("name", SETTINGS)
def test_it_is_not_ignored(name: str, runs: Mapping[str, RunFolder]) -> None:
    assert weights(runs[name]) != weights(runs["plain"])
