"""An adapter that learns fast reaches engines of their own: they sample from the adapted model, not from the base."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mrpo.record.run_folder import RunFolder
from tests.faults.kill_resume import essence, first_difference

from .conftest import Train, mrpo, require_agreement

pytestmark = pytest.mark.proof
STEPS = 4
SETTINGS = (
    "model.lora={rank: 8}",
    "actor.learning_rate=5e-3",
    "data.train_batch_size=8",
    "budget.rollouts_per_prompt=4",
    "checkpoint.every=2",
    "trainer.determinism=strict",
    "trainer.test_freq=-1",
    "trainer.val_before_train=false",
)


@pytest.fixture(scope="module")
def run(train: Train) -> RunFolder:
    return train("lora", *SETTINGS, f"trainer.total_training_steps={STEPS}")


def test_engine_and_trainer_agree_while_the_adapter_learns(run: RunFolder) -> None:
    assert len(run.metrics()) == 4
    require_agreement(run)


def test_what_the_run_leaves_is_merged_and_far_from_the_base(run: RunFolder, quickstart: Path) -> None:
    trained, base = (load_file(folder / "model.safetensors") for folder in (run.model, quickstart / "model"))
    assert trained.keys() == base.keys()
    moved = {name for name, weight in base.items() if not torch.equal(trained[name].float(), weight.float())}
    assert moved == {name for name in base if "_proj.weight" in name}
    largest = max(float((trained[name].float() - base[name].float()).abs().max()) for name in moved)
    assert largest > 0.005  # to be seen in every probability: engines with the base's weights would be far off


def test_a_run_that_was_stopped_half_way_is_the_same_run(run: RunFolder, tmp_path: Path) -> None:
    """From the adapter's first random numbers to the last byte saved."""
    for steps in (2, STEPS):
        command = ["train", "recipe=quickstart", f"run_dir={tmp_path / 'run'}", *SETTINGS]
        done = mrpo(*command, f"trainer.total_training_steps={steps}")
        assert done.returncode == 0, done.stderr[-3000:]
    assert first_difference(essence(run, STEPS), essence(RunFolder(tmp_path / "run"), STEPS)) is None
