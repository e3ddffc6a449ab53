"""``mrpo train`` with something wrong: one message, exit code 2, at once, nothing left behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit


SAY_WHAT_WAS_IMPORTED = """
import atexit, sys
slow = {"torch", "transformers", "ray", "verl", "vllm"}
atexit.register(lambda: print(sorted(slow & sys.modules.keys())))
from mrpo.cli.main import main
main()
"""


def mrpo(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mrpo.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=60, check=False)


@pytest.mark.parametrize(
    ("arguments", "tells"),
    [
        (["recipe=quickstart", "trainer.total_steps=3"], "Did you mean 'total_training_steps'?"),
        (["recipe=quickstart", "algorithm.estimator=gdp"], "Did you mean 'gdpo'?"),
        (["recipe=quickstat"], "Did you mean 'quickstart'?"),
        (["recipe=quickstart", "data.train_files=[/none.parquet]"], "data.train_files[0]: no such file"),
        (["recipe=quickstart", "trainer.n_gpus_per_node=7"], "7 ranks can't share"),
        (
            ["recipe=quickstart", "checkpoint.folder=foo://bucket"],
            "checkpoint.folder: given foo://bucket: Protocol not known",
        ),
        (["trainer.n_gpus_per_node=7"], "Say recipe=NAME"),
    ],
)
def test_it_says_what_is_wrong_and_starts_nothing(tmp_path: Path, arguments: list[str], tells: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SAY_WHAT_WAS_IMPORTED, "train", *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == "[]\n"
    assert len(done.stderr.strip().splitlines()) == 1
    assert tells in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_is_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").touch()
    done = mrpo(tmp_path, "train", "recipe=quickstart", "run_dir=run")
    assert done.returncode == 2
    assert "run_dir: run holds something else than a run" in done.stderr


def test_an_unknown_command_names_the_commands(tmp_path: Path) -> None:
    done = mrpo(tmp_path, "trian")
    assert done.returncode == 2
    assert "Did you mean 'train'?" in done.stderr


def test_help_lists_every_command(tmp_path: Path) -> None:
    done = mrpo(tmp_path, "--help")
    assert done.returncode == 0
    for command in ("train", "evaluate", "rewards", "plan", "launch", "recipes", "report", "watch", "doctor", "audit"):
        assert f"\n  {command} " in done.stdout
