"""Runs of the real command line, shared by the tests that look at what they left."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from mrpo.config.load import prepared_folder
from mrpo.config.recipes import find_recipe
from mrpo.record.run_folder import RunFolder

Train = Callable[..., RunFolder]


def mrpo(*arguments: str, timeout: float = 400) -> subprocess.CompletedProcess[str]:
    """``mrpo ARGUMENTS`` as a user would run it."""
    command = [sys.executable, "-m", "mrpo.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


@pytest.fixture(scope="session")
def quickstart() -> Path:
    """The quickstart's prepared model and data."""
    recipe = find_recipe("quickstart")
    folder = prepared_folder(recipe, "prepare.py", 0)
    if not folder.exists():
        partial = folder.with_name(folder.name + ".partial")
        partial.mkdir(parents=True)
        script = [sys.executable, str(recipe.folder / "prepare.py"), "--out", str(partial), "--seed", "0"]
        subprocess.run(script, check=True, timeout=300)
        os.rename(partial, folder)
    return folder


@pytest.fixture(scope="session")
def train(quickstart: Path, tmp_path_factory: pytest.TempPathFactory) -> Train:
    """Train the quickstart with overrides; fails with the run's own message if the run fails."""

    def run(*overrides: str) -> RunFolder:
        folder = tmp_path_factory.mktemp("run") / "run"
        done = mrpo("train", "recipe=quickstart", f"run_dir={folder}", *overrides)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return RunFolder(folder)

    return run


def train_on_real_rows(recipe: str, source: Path, folder: Path) -> RunFolder:
    """Two steps of a recipe whose prepare script finds the public files below ``source``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MRPO_DATA", str(source))
        given = [f"recipe={recipe}", f"run_dir={folder}", "trainer.total_training_steps=2", "trainer.test_freq=2"]
        done = mrpo("train", *given, timeout=1400)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return RunFolder(folder)


@pytest.fixture(scope="session")
def few_prompts(quickstart: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight of the quickstart's prompts, so that from the second step on every prompt has a history."""
    file = tmp_path_factory.mktemp("data") / "few.parquet"
    pd.read_parquet(quickstart / "train.parquet").head(8).to_parquet(file)
    return file


@pytest.fixture(scope="session")
def unequal_run(train: Train, few_prompts: Path) -> RunFolder:
    """Separate actors, two trainer ranks, and numbers of rollouts from 1 to 32 by each prompt's history."""
    return train(
        f"data.train_files=[{few_prompts}]",
        "data.train_batch_size=8",
        "budget.method=dynamo",
        "budget.low=1",
        "budget.high=32",
        "budget.initial=1",
        "trainer.total_training_steps=5",
        "trainer.logger=[tensorboard]",
        "trainer.val_before_train=true",
    )


@pytest.fixture(scope="session")
def colocated_run(train: Train) -> RunFolder:
    """Engines on the trainer ranks' devices, another estimator, token modulation, a checkpoint, wandb."""
    return train(
        "rollout.placement=colocated",
        "algorithm.estimator=grpo",
        "algorithm.token_modulation={}",
        "actor.ppo_mini_batch_size=8",
        "actor.kl_loss_coef=0.01",
        "trainer.total_training_steps=2",
        "checkpoint.every=2",
        "trainer.logger=[wandb]",
    )


@pytest.fixture(scope="session")
def filtered_run(train: Train) -> RunFolder:
    """Prompts without any spread are replaced, and rollouts whose rewards disagree leave the loss."""
    return train(
        "algorithm.estimator=gd2po",
        "algorithm.mode=hard",
        "budget.filter_groups=correct",
        "budget.rollouts_per_prompt=4",
        "data.train_batch_size=8",
        "trainer.total_training_steps=3",
    )


WORKER = """
import os

def worker(prompt, response, ground_truth, extra):
    with open(os.path.join(os.path.dirname(__file__), "pids"), "a") as file:
        file.write(f"{os.getpid()}\\n")
"""


@pytest.fixture(scope="session")
def worker_reward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reward that is never applicable, and notes which process asked it (in ``pids`` beside its file)."""
    file = tmp_path_factory.mktemp("rewards") / "worker.py"
    file.write_text(WORKER)
    return file


@pytest.fixture(scope="session")
def rounds_run(train: Train, worker_reward: Path) -> RunFolder:
    """Prompts sampled in rounds of four, until two rollouts are right and two are wrong."""
    return train(
        f"rewards.worker.function={worker_reward}:worker",
        "budget.rounds={reward: correct, keep: 4, max_rounds: 4}",
        "budget.rollouts_per_prompt=4",
        "budget.reweight_by_n=false",
        "data.train_batch_size=8",
        "trainer.total_training_steps=2",
    )
