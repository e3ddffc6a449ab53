"""docs/recipes.md does what it says: its files, written to a folder, are a recipe that loads, checks and scores."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from mrpo.config.check import check_files
from mrpo.config.load import load_run_config, prepared_folder
from mrpo.config.recipes import recipe_names
from mrpo.rewards.function import load_function

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"`(recipes/sums/[\w.]+)`:\n\n```\w+\n(.*?)```", re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the page's files, and nothing prepared."""
    for name, content in BLOCK.findall(PAGE):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MRPO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "recipes" / "sums"


def test_the_page_names_every_file_that_it_shows(folder: Path) -> None:
    assert sorted(file.name for file in folder.iterdir()) == ["config.yaml", "prepare.py", "rewards.py", "small.yaml"]
    shown = re.findall(r"^```(?:python|yaml)$", PAGE, re.MULTILINE)
    assert len(shown) == len(BLOCK.findall(PAGE))


def test_its_recipe_loads_and_checks_before_and_after_it_is_prepared(folder: Path) -> None:
    config, recipe = load_run_config(["recipe=sums"])
    assert recipe.folder == folder
    prepared = prepared_folder(recipe, config.prepare, config.seed)
    check_files(config, recipe, prepared)
    prepared.mkdir(parents=True)
    assert config.prepare is not None
    script, *arguments = shlex.split(config.prepare)
    command = [sys.executable, str(folder / script), *arguments, "--out", str(prepared), "--seed", str(config.seed)]
    subprocess.run(command, check=True, timeout=120)
    check_files(config, recipe, prepared)
    assert [len(pd.read_parquet(prepared / name)) for name in ("train.parquet", "test.parquet")] == [256, 8]

    row = pd.read_parquet(config.data.train_files[0]).to_dict("records")[0]
    extra = {**row["extra_info"], "response_tokens": 9}
    truth = row["reward_model"]["ground_truth"]
    functions = {n: load_function(r.function, folder, r.options) for n, r in config.rewards.items()}

    def score(response: str) -> dict[str, float]:
        return {name: function(row["prompt"], response, truth, extra) for name, function in functions.items()}

    right = f"{extra['a']} + {extra['b']} = {truth}"
    assert score(right) == {"correct": 1, "equation": 1, "short": 1}
    assert score(f"It is {truth}") == {"correct": 1, "equation": 0, "short": 1}
    assert score(f"{extra['a']} + {extra['b']} = 0") == {"correct": 0, "equation": 1, "short": 1}


def test_its_variant_and_its_overrides_load(folder: Path) -> None:
    commands = re.findall(r"^mrpo (?:train|plan) (recipe=sums.*)$", PAGE, re.MULTILINE)
    assert len(commands) == 4
    for command in commands:
        load_run_config(shlex.split(command))
    small, _ = load_run_config(["recipe=sums/small"])
    assert small.rollouts_per_step == 16
    assert {c.reward: c.requires for c in small.advantage.conditions} == {"short": "correct"}


def test_the_table_has_every_recipe_and_only_variants_that_exist() -> None:
    rows = {
        name: line for line in PAGE.splitlines() for name in re.findall(r"^\| \[`(\w+)`\]\(\.\./recipes/\1\)", line)
    }
    there = {file.parent.name for file in (ROOT / "recipes").glob("*/config.yaml")}
    assert there <= set(rows)
    assert there <= set(recipe_names())
    for name in there:
        for variant in re.findall(r"`(\w+)`", rows[name].rstrip(" |").rpartition("|")[2]):
            assert (ROOT / "recipes" / name / f"{variant}.yaml").is_file(), (name, variant)
