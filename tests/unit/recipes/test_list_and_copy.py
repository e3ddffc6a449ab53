"""Recipes are listed with their variants and a summary, and a copy works by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from mrpo.config.check import check_files
from mrpo.config.load import load_run_config, prepared_folder
from mrpo.config.recipes import copy_recipe, list_recipes
from mrpo.errors import ConfigError
from mrpo.resources import folder

pytestmark = pytest.mark.unit


def test_every_recipe_is_listed_with_variants_and_a_summary() -> None:
    entries = {entry.name: entry for entry in list_recipes()}
    assert entries.keys() >= {
        "quickstart",
        "calculator",
        "smollm2",
        "code",
        "math_length",
        "safe_alignment",
        "tool_calling",
    }
    assert entries["quickstart"].summary == "three rewards in minutes, on any machine"
    assert entries["code"].variants == ("cpu", "cpu_sample", "multi_node")
    for name, entry in entries.items():
        assert 10 < len(entry.summary) < 80, name
        assert not entry.summary.startswith((name, "#"))
        assert entry.folder == folder("recipes") / name


def test_a_recipe_of_ones_own_hides_the_packages_and_needs_no_readme(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("quickstart", "mine", "bare"):
        (tmp_path / "recipes" / name).mkdir(parents=True)
        (tmp_path / "recipes" / name / "config.yaml").write_text("# One thing,\n# and another. A second sentence.\n")
    (tmp_path / "recipes" / "bare" / "config.yaml").write_text("seed: 1\n# not on top\n")
    monkeypatch.chdir(tmp_path)
    entries = {entry.name: entry for entry in list_recipes()}
    assert entries["mine"].summary == entries["quickstart"].summary == "One thing, and another"
    assert entries["bare"].summary == ""
    assert entries["quickstart"].folder == tmp_path / "recipes" / "quickstart"
    assert entries["code"].folder == folder("recipes") / "code"


@pytest.mark.parametrize("name", ["quickstart", "quickstart/mixed"])
def test_a_copy_is_a_recipe_by_itself(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert copy_recipe(name, Path("mine")) == tmp_path / "mine"
    files = {file.name for file in (tmp_path / "mine").iterdir()}
    assert files >= {"config.yaml", "mixed.yaml", "prepare.py", "rewards.py", "README.md"}
    assert "__pycache__" not in files
    config, recipe = load_run_config(["recipe=./mine"])
    assert recipe.folder == tmp_path / "mine"
    check_files(config, recipe, prepared_folder(recipe, config.prepare, config.seed))
    assert load_run_config(["recipe=mine/mixed"])[1].variant == "mixed"


def test_a_copy_has_the_sample_too(tmp_path: Path) -> None:
    copied = copy_recipe("code", tmp_path)  # a folder that is there and empty
    assert (copied / "sample" / "Eurus-2-RL-Data" / "train.jsonl").is_file()


def test_a_taken_target_and_an_unknown_recipe_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for target in (tmp_path, tmp_path / "file"):
        with pytest.raises(ConfigError, match=rf"target: given {target}, which isn't an empty folder\. Allowed: "):
            copy_recipe("quickstart", target)
    with pytest.raises(ConfigError, match=r"unknown name 'quikstart'. Did you mean 'quickstart'"):
        copy_recipe("quikstart", tmp_path / "mine")
    inside = folder("recipes") / "quickstart" / "mine"
    with pytest.raises(ConfigError, match="in the recipe itself"):
        copy_recipe("quickstart", inside)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert not inside.exists()


def test_what_is_prepared_depends_on_scripts_sample_and_seed(tmp_path: Path) -> None:
    copy_recipe("math_length", tmp_path / "mine")
    recipe = load_run_config([f"recipe={tmp_path / 'mine'}"])[1]

    def prepared() -> Path:
        return prepared_folder(recipe, "prepare.py", 0)

    names = {prepared(), prepared(), prepared_folder(recipe, "prepare.py", 1)}
    for file in ("prepare.py", "sample/gsm8k/train.jsonl"):
        (recipe.folder / file).write_text((recipe.folder / file).read_text() + "\n")
        names.add(prepared())
    assert len(names) == 4
