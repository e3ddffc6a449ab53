"""Help, completion and the list of recipes: what they show, and how little they import."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mrpo.cli._complete import complete_recipe, complete_run, complete_setting, complete_value, rewards_of
from mrpo.cli.main import invoke
from mrpo.config.estimators import ESTIMATOR_CONFIGS
from mrpo.registry import module_names

pytestmark = pytest.mark.unit

COMMANDS = [name for name in module_names("mrpo.cli") if name != "main"]
NESTED = ["rewards check", "rewards list", "launch slurm", "launch kubernetes", "launch local", "recipes copy"]


@pytest.mark.parametrize("command", [*COMMANDS, *NESTED])
def test_every_command_has_help_with_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke([*command.split(), "-h"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"Usage: mrpo {command}")
    if command not in ("rewards", "launch"):
        assert f"Examples:\n    mrpo {command}" in shown


def test_the_list_of_commands_imports_none_of_them() -> None:
    code = (
        "import sys; from mrpo.cli.main import invoke; invoke(['--help']);"
        "print({'torch', 'ray', 'verl', 'hydra', 'pydantic', 'numpy', 'rich'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"
    for command in COMMANDS:
        assert f"\n  {command} " in done.stdout


def test_without_a_command_the_list_is_shown_and_the_exit_code_is_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke([]) == 2
    assert "Commands:" in capsys.readouterr().out


def test_names_complete_to_recipes_and_settings() -> None:
    assert complete_recipe("quickst") == ["quickstart", "quickstart/mixed"]
    assert complete_setting("trainer.total_tr") == ["trainer.total_training_steps="]
    assert complete_setting("trainer.nnodes=") == []
    assert "actor.learning_rate=" in complete_setting("")


def test_rewards_complete_to_those_of_the_recipe_and_of_what_it_is_made_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "recipes" / "mine"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("rewards: {good: {function: a.py:f}, short: {function: a.py:g}}\n")
    (folder / "more.yaml").write_text("defaults: [config, _self_]\nrewards: {kind: {weight: 1}, short: {weight: 2}}\n")
    (folder / "broken.yaml").write_text("defaults: [config, absent]\nrewards: [\n")
    assert rewards_of("mine") == ["good", "short"]
    assert rewards_of("mine/more") == ["good", "short", "kind"]
    assert rewards_of("mine/broken") == rewards_of("nobodys") == []
    assert complete_setting("rewards.kind.weig", rewards_of("mine/more")) == ["rewards.kind.weight="]


def test_runs_complete_to_the_folders_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert complete_run("") == []
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    assert complete_run("mi") == ["mine"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("mrpo tra", ["train"]),
        ("mrpo launch k", ["kubernetes"]),
        ("mrpo train recipe=quickstart/", ["recipe=quickstart/mixed"]),
        ("mrpo train recipe = quickstart/", ["quickstart/mixed"]),
        ("mrpo train recipe=quickst", ["recipe=quickstart", "recipe=quickstart/mixed"]),
        ("mrpo plan seed=1 trainer.total_tr", ["trainer.total_training_steps="]),
        ("mrpo train algorithm.est", ["algorithm.estimator="]),
        ("mrpo train algorithm.w_m", ["algorithm.w_max="]),
        ("mrpo train algorithm.estimator=gd", ["algorithm.estimator=gd2po", "algorithm.estimator=gdpo"]),
        ("mrpo train algorithm.estimator = gd", ["gd2po", "gdpo"]),
        ("mrpo train seed = 1 trainer.export =", ["none", "last", "best"]),
        ("mrpo plan recipe=quickstart rewards.tagged.w", ["rewards.tagged.weight="]),
        ("mrpo train recipe = quickstart/mixed rewards.short.scope = ", ["rollout", "group"]),
        ("mrpo train observe.alarms.truncated.", ["observe.alarms.truncated.at=", "observe.alarms.truncated.steps="]),
    ],
)
def test_bash_is_given_what_a_word_may_become(words: str, expected: list[str]) -> None:
    given = {"_MRPO_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    command = [sys.executable, "-m", "mrpo.cli.main"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **given}, check=False)
    assert done.stdout.split() == expected


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_keep_an_override_whole(shell: str) -> None:
    given = {"_MRPO_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_ARGS": "mrpo train model.gradient_checkpointing="}
    given["_TYPER_COMPLETE_FISH_ACTION"] = "get-args"
    command = [sys.executable, "-m", "mrpo.cli.main"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **given}, check=False)
    for value in ("true", "false"):
        assert f"model.gradient_checkpointing={value}" in done.stdout


@pytest.mark.parametrize("name", ["train", "plan", "compare"])
def test_completing_an_override_imports_nothing_that_only_a_run_needs(name: str) -> None:
    code = (
        "import atexit, sys; heavy = {'torch', 'ray', 'verl', 'hydra', 'omegaconf', 'numpy', 'rich'};"
        "atexit.register(lambda: print(sorted(heavy & set(sys.modules)), file=sys.stderr));"
        "from mrpo.cli.main import main; main()"
    )
    given = {"_MRPO_COMPLETE": "complete_bash", "COMP_WORDS": f"mrpo {name} algorithm.estimator="}
    given["COMP_CWORD"] = "2"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **given}, check=False)
    assert "algorithm.estimator=dvao" in done.stdout.split()
    assert done.stderr == "[]\n"


def test_a_setting_of_few_values_completes_to_each_of_them() -> None:
    assert complete_value("budget.method", "ne") == ["neyman"]
    assert complete_value("seed", "") == []
    assert complete_value("no.such.key", "") == []
    assert set(complete_value("algorithm.estimator", "")) == set(ESTIMATOR_CONFIGS)


def test_recipes_are_listed_and_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "150")
    monkeypatch.setenv("MRPO_CACHE", str(tmp_path / "cache"))
    assert invoke(["recipes"]) == 0
    shown = capsys.readouterr().out
    assert "quickstart" in shown
    assert "mixed" in shown
    assert invoke(["recipes", "copy", "quickstart", "recipes/mine"]) == 0
    assert "recipes/mine" in capsys.readouterr().out
    assert invoke(["plan", "recipe=mine", "trainer.device=cpu"]) == 0
