"""The code recipe: problems with tests from every source, and configurations that hold what they promise."""

from __future__ import annotations

import json
import random
import runpy
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mrpo.config.check import check_files
from mrpo.config.load import load_run_config, prepared_folder
from mrpo.prepare.rows import select
from mrpo.rewards.function import load_function
from tests.unit.recipes.preparing import RECIPES, prepare, prepared, rows
from tests.unit.rewards.library.rows import real_json, require_sandbox

pytestmark = pytest.mark.unit

RECIPE = RECIPES / "code"
VARIANTS = {"code": (512, 16, 8), "code/multi_node": (512, 16, 16), "code/cpu": (4, 8, 2), "code/cpu_sample": (4, 8, 2)}
"""Prompts per step, rollouts per prompt, trainer ranks."""


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(RECIPE / "prepare.py"))


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """What the sample becomes, without the model."""
    out = tmp_path_factory.mktemp("sample")
    return out, prepared("code", out, "--source", "sample")


def score(text: str, row: dict[str, Any]) -> list[float]:
    """``passed`` and ``bugs`` of a program, as the recipe has them configured."""
    config, recipe = load_run_config(["recipe=code/cpu_sample"])
    functions = [
        load_function(config.rewards[n].function, recipe.folder, config.rewards[n].options) for n in ("passed", "bugs")
    ]
    return [f(row["prompt"], text, row["reward_model"]["ground_truth"], row["extra_info"]) for f in functions]


@pytest.mark.parametrize("variant", VARIANTS)
def test_configs_load_check_and_divide(variant: str) -> None:
    config, recipe = load_run_config([f"recipe={variant}"])
    check_files(config, recipe, prepared_folder(recipe, config.prepare, config.seed))
    prompts, per_prompt, ranks = VARIANTS[variant]
    assert (config.data.train_batch_size, config.budget.rollouts_per_prompt, config.ranks) == (
        prompts,
        per_prompt,
        ranks,
    )
    assert config.rollouts_per_step == prompts * per_prompt
    assert config.mini_batch_size * per_prompt % ranks == 0
    assert list(config.rewards) == ["passed", "short", "bugs"]
    assert config.rewards["short"].options["cap"] < config.data.max_response_length
    for name in ("passed", "bugs"):  # slow code is a low score, not a failure
        assert config.rewards[name].options["total"] < config.rewards[name].timeout


def test_length_counts_only_where_the_tests_passed() -> None:
    config = load_run_config(["recipe=code"])[0].advantage
    assert [(c.reward, c.requires, c.threshold) for c in config.conditions] == [("short", "passed", 1)]
    assert config.ranges["bugs"] == (-1, 0)


def test_the_two_reward_runs_are_one_override() -> None:
    config, _ = load_run_config(["recipe=code", "~rewards.bugs"])
    assert list(config.rewards) == ["passed", "short"]


def test_the_sample_is_prepared_with_counts_and_licence(sample: tuple[Path, str]) -> None:
    out, printed = sample
    assert [len(rows(out / f"{part}.parquet")) for part in ("train", "test")] == [10, 4]
    assert "eurus2 train: 10 rows" in printed
    assert "licence:" in printed
    assert {row["data_source"] for row in rows(out / "train.parquet")} == {"apps", "codecontests", "codeforces", "taco"}


def test_every_solution_of_the_sample_passes_its_tests_and_no_other(
    sample: tuple[Path, str], script: dict[str, Any]
) -> None:
    require_sandbox()
    given = rows(sample[0] / "train.parquet") + rows(sample[0] / "test.parquet")
    for row in given:
        assert score(script["program"](row["extra_info"]["solution"]), row) == [1, 0]
    assert score("I can't.", given[0]) == [0, -1]
    assert score(script["program"]("1 / 0"), given[0]) == [0, -1]
    passed, bugs = score(script["program"]("print(3)"), given[0])
    assert 0 < passed < 1
    assert bugs == 0


def test_eurus_2_is_read_from_parquet_without_its_mathematics(script: dict[str, Any], tmp_path: Path) -> None:
    lines = (RECIPE / "sample" / "Eurus-2-RL-Data" / "train.jsonl").read_text().splitlines()
    given = [json.loads(line) for line in lines]
    for row in given:
        row["extra_info"].pop("solution")
    given.insert(
        1, {**given[0], "data_source": "numina_olympiads", "reward_model": {"ground_truth": "7", "style": "rule"}}
    )
    folder = tmp_path / "anywhere" / "Eurus-2-RL-Data"
    folder.mkdir(parents=True)
    pd.DataFrame(given).to_parquet(folder / "train.parquet")
    pd.DataFrame(given[:3]).to_parquet(folder / "validation.parquet")
    out = tmp_path / "out"
    prepared("code", out, "--source", str(tmp_path))
    made = rows(out / "train.parquet")
    assert len(made) == 10
    assert [len(message["content"]) for message in made[0]["prompt"]] == [len(given[0]["prompt"][1]["content"])]
    assert made[0]["extra_info"]["solution"] == ""


def test_tests_that_cannot_be_run_are_dropped_and_counted(script: dict[str, Any]) -> None:
    def row(tests: Any) -> dict[str, Any]:
        return {"reward_model": {"ground_truth": tests if isinstance(tests, str) else json.dumps(tests)}}

    good = {"inputs": ["1\n"], "outputs": ["1\n"]}
    huge = {"inputs": ["1\n"], "outputs": ["1" * 500_000]}
    given: list[Any] = [row(good), row("{"), row({"inputs": [], "outputs": []}), row(huge)]
    kept, dropped = select(given, script["problem"])
    assert kept == [row(good)]
    assert list(dropped.values()) == [2, 1]


def test_real_leetcode_rows_become_problems_whose_solutions_pass(script: dict[str, Any]) -> None:
    require_sandbox()
    given = real_json("deepscaler_rllm/train/code/leetcode.json")
    parts = script["leetcode"](given, random.Random(0))
    assert [len(parts[name]) for name in ("train", "test")] == [1689, 200]
    assert not {r["extra_info"]["index"] for r in parts["train"]} & {r["extra_info"]["index"] for r in parts["test"]}
    kept, dropped = select(parts["test"], script["problem"])
    assert len(kept) + sum(dropped.values()) == 200
    assert len(kept) > 190
    alone: list[Any] = [row for row in kept if not {"list_node", "tree_node", "is_same"} & set(_words(dict(row)))][:8]
    for row in alone:
        assert score(script["program"](row["extra_info"]["solution"]), row) == [1, 0], row["prompt"][0]["content"]


def _words(row: dict[str, Any]) -> list[str]:
    return "".join(c if c.isalnum() or c == "_" else " " for c in row["reward_model"]["ground_truth"]).split()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--source", "download"),
            "eurus2 train: hf://datasets/PRIME-RL/Eurus-2-RL-Data/train.parquet can't be downloaded",
        ),
        (("--source", "download", "--data", "leetcode"), "leetcode: can't be downloaded, it is a file of"),
        (("--source", str(RECIPES / "quickstart")), "eurus2 train: not in"),
    ],
)
def test_data_that_cannot_be_had_are_one_line(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    done = prepare("code", tmp_path, *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith(message)
    assert len(done.stderr.splitlines()) == 1
    assert "MRPO_DATA" in done.stderr
