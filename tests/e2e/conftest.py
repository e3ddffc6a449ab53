"""Runs of the real command line, shared by the tests that look at what they left.

pytest-xdist runs two files of tests at a time, in processes of their own; ``once`` shares runs between these, too.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest

from mrpo.config.load import prepared_folder
from mrpo.config.recipes import find_recipe
from mrpo.record.phase import Phase
from mrpo.record.run_folder import RunFolder

from .faulty_rewards import CAUSES, FAULTS, JUDGES, make_judges
from .padded_model import pad_vocabulary
from .watched import run_watched

STEPS = 6
AGREEMENT = 2e-5
"""Largest difference between an engine's and the trainer's probability of a token, in float32. Old weights: 0.1, 1."""
Train = Callable[..., RunFolder]
Once = Callable[[str, Callable[[Path], object]], Path]


SECONDS = 900
"""How long a command may take on a busy machine; 30 to 90 seconds on two cores of its own."""


def mrpo(*arguments: str, timeout: float = SECONDS) -> subprocess.CompletedProcess[str]:
    """``mrpo ARGUMENTS`` as a user would run it."""
    command = [sys.executable, "-m", "mrpo.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Of several processes one makes ``folder``, and the others wait."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_name(folder.name + ".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """Make a folder of this name, once in a session whatever the number of pytest-xdist's workers."""
    base = tmp_path_factory.getbasetemp()
    root = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def of_all_workers(name: str, make: Callable[[Path], object]) -> Path:
        folder, made = root / name, root / f"{name}.made"
        with locked(folder):
            if not made.exists():
                assert not folder.exists(), f"{name} failed in an earlier test"
                folder.mkdir()
                make(folder)
                made.touch()
        return folder

    return of_all_workers


@pytest.fixture(scope="session")
def quickstart() -> Path:
    """The quickstart's prepared model and data."""
    recipe = find_recipe("quickstart")
    folder = prepared_folder(recipe, "prepare.py", 0)
    with locked(folder):
        if not folder.exists():
            partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
            partial.mkdir()
            script = [sys.executable, str(recipe.folder / "prepare.py"), "--out", str(partial), "--seed", "0"]
            subprocess.run(script, check=True, timeout=SECONDS)
            partial.rename(folder)
    return folder


@pytest.fixture(scope="session")
def train(quickstart: Path, once: Once) -> Train:
    """Train the quickstart with overrides, once for each name; fails with the run's own message if the run fails.

    Without the recipe's validations, which cost seconds, unless the overrides have some.
    """
    unvalidated = ("trainer.test_freq=-1", "trainer.val_before_train=false")

    def run(name: str, *overrides: str) -> RunFolder:
        def make(folder: Path) -> None:
            command = [sys.executable, "-m", "mrpo.cli.main", "train", "recipe=quickstart", f"run_dir={folder / 'run'}"]
            visited = folder / "run" if name == "visited" else None
            done = run_watched([*command, *unvalidated, *overrides], folder / "watched.json", SECONDS, visited)
            assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]

        return RunFolder(once(name, make) / "run")

    return run


def require_agreement(run: RunFolder) -> None:
    """In every step the engines' probabilities of tokens were those of the trainer."""
    for record in run.metrics():
        assert record["rollout/probs_diff/valid"] == 1
        assert record["rollout/probs_diff/max"] < AGREEMENT
        assert record["train/grad_norm"] > 0  # else every update would agree with its predecessor


def train_on_real_rows(recipe: str, source: Path, folder: Path) -> RunFolder:
    """A step and a validation of a recipe whose prepare script finds the public files below ``source``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MRPO_DATA", str(source))
        steps = ["trainer.total_training_steps=1", "trainer.test_freq=1"]
        done = mrpo("train", f"recipe={recipe}", f"run_dir={folder}", *steps)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return RunFolder(folder)


@pytest.fixture(scope="session")
def few_prompts(quickstart: Path, once: Once) -> Path:
    """Eight of the quickstart's prompts, so that from the second step on every prompt has a history."""
    prompts = pd.read_parquet(quickstart / "train.parquet").head(8)
    return once("data", lambda folder: prompts.to_parquet(folder / "few.parquet")) / "few.parquet"


@pytest.fixture(scope="session")
def exact(few_prompts: Path) -> list[str]:
    """Overrides of a run that can be repeated bit by bit, with budgets by each prompt's history."""
    return [
        f"data.train_files=[{few_prompts}]",
        "data.train_batch_size=8",
        "data.val_batch_size=8",
        "budget.method=dynamo",
        "budget.low=1",
        "budget.high=32",
        "budget.initial=1",
        "budget.floor=0.001",  # next to nothing for a mastered prompt, so that it gets ``low``
        "rewards.short.weight={0: 0.5, 6: 1.1}",
        "rewards.brief={function: length, options: {kind: target}, weight: 0}",
        "rewards.brief.scheduled_options={target: {0: 8, 6: 20}}",
        "rewards.diverse={function: distinct, scope: group, options: {unit: characters}, weight: 0}",
        "checkpoint.every=3",
        "checkpoint.keep_last=3",
        "rollout.replicas=2",
        f"trainer.total_training_steps={STEPS}",
        "trainer.determinism=strict",
        "trainer.logger=[tensorboard]",
        "trainer.test_freq=2",
        "trainer.val_before_train=true",
    ]


@pytest.fixture(scope="session")
def unequal_run(train: Train, exact: list[str]) -> RunFolder:
    """Separate actors, two engines, two trainer ranks, and numbers of rollouts from 1 to 32 by each prompt's history.

    It is also what runs that are stopped, killed and damaged are compared with.
    """
    return train("unequal", *exact)


@pytest.fixture(scope="session")
def ahead_run(exact: list[str], once: Once) -> RunFolder:
    """The same with each step's prompts sampled while the step before trains; killed as step 3 trained, and gone on."""
    from .commands import Command

    more = ["rollout.ahead=1", "checkpoint.every=1", "trainer.test_freq=-1", "trainer.val_before_train=false"]

    def make(folder: Path) -> None:
        killed = Command(RunFolder(folder / "run"), *exact, *more)
        killed.wait_for(Phase.UPDATE_ACTOR, 3)
        killed.kill()
        again = Command(killed.folder, *exact, *more)
        assert again.ends() == 0, again.last_words()

    return RunFolder(once("ahead", make) / "run")


@pytest.fixture(scope="session")
def continue_run(exact: list[str], once: Once) -> RunFolder:
    """The same with weights that don't wait for rollouts under way, and an engine so slow that there are some. A rank
    is killed as it trains in step 3, so that the command begins again from step 2 by itself.

    Its weights are new and all but the same: engine and trainer must agree on every token, whichever part of a response
    it is in.
    """
    from .commands import Command

    more = ["rollout.ahead=1", "rollout.on_sync=continue", "rollout.replicas=1", "rollout.max_num_seqs=1"]
    more += [
        "actor.learning_rate=1e-12",
        "trainer.determinism=default",
        "trainer.test_freq=-1",
        "trainer.val_before_train=false",
    ]
    more += ["trainer.total_training_steps=4", "trainer.export=none", "checkpoint.every=1", "checkpoint.keep_last=9"]

    def make(folder: Path) -> None:
        command = Command(RunFolder(folder / "run"), *exact, *more)
        command.wait_for(Phase.UPDATE_ACTOR, 3)
        command.processes("WorkerDict")[0].kill()
        assert command.ends() == 0, command.last_words()

    return RunFolder(once("continue", make) / "run")


@pytest.fixture(scope="session")
def colocated_run(train: Train) -> RunFolder:
    """Engines on the trainer ranks' devices, another estimator, token modulation, a checkpoint, wandb."""
    return train(
        "colocated",
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
def padded_model(quickstart: Path, once: Once) -> Path:
    """The quickstart's model with 64 logits more than its tokenizer has tokens, on which about 6 % of the mass lies."""
    return once("padded", lambda folder: pad_vocabulary(quickstart / "model", folder))


@pytest.fixture(scope="session")
def filtered_run(train: Train, padded_model: Path) -> RunFolder:
    """Prompts without any spread are replaced, truncated rollouts and those whose rewards disagree leave the loss, two
    updates a step, and the model's vocabulary is larger than its tokenizer's.

    The second update's old policy is the step's, not the first update's: else engine and trainer wouldn't agree.
    """
    return train(
        "filtered",
        f"model.path={padded_model}",
        "algorithm.estimator=gd2po",
        "algorithm.mode=hard",
        "algorithm.truncated=mask",
        "data.max_response_length=18",  # some of the responses are longer
        "actor.ppo_mini_batch_size=4",
        "budget.filter_groups=correct",
        "budget.rollouts_per_prompt=4",
        "data.train_batch_size=8",
        "trainer.total_training_steps=2",
    )


@pytest.fixture(scope="session")
def judges(quickstart: Path, once: Once) -> dict[str, Path]:
    """Two small reward models with the quickstart's tokenizer."""
    folder = once("judges", lambda folder: make_judges(quickstart / "model", folder))
    return {name: folder / name for name in JUDGES}


@pytest.fixture(scope="session")
def worker_reward(once: Once) -> Path:
    """Rewards that go wrong, and ``worker``, which notes (in ``pids`` beside its file) which process asked it."""
    return once("rewards", lambda folder: (folder / "faults.py").write_text(FAULTS)) / "faults.py"


@pytest.fixture(scope="session")
def rounds_run(train: Train, worker_reward: Path, judges: dict[str, Path]) -> RunFolder:
    """Prompts sampled in rounds of four, until two rollouts are right and two are wrong.

    They are scored by two reward models, and by rewards that go wrong for one response in sixteen.
    """
    faults = [f"rewards.{name}={{function: '{worker_reward}:{name}', timeout: 3}}" for name in (*CAUSES, "abstains")]
    models = [
        f"rewards.{name}.model={{path: {folder}, dtype: float32, max_model_len: 256}}"
        for name, folder in judges.items()
    ]
    return train(
        "rounds",
        *faults,
        *models,
        f"rewards.worker.function={worker_reward}:worker",
        f"rewards.seen={{function: '{worker_reward}:seen', scope: group, weight: 0}}",
        "scoring.max_failure_rate=0.5",
        "budget.rounds={reward: correct, keep: 4, max_rounds: 4}",
        "budget.rollouts_per_prompt=4",
        "budget.reweight_by_n=false",
        "trainer.total_training_steps=1",
    )
