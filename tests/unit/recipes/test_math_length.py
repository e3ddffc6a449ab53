"""The math_length recipe: data from real files, and configurations that hold what they promise."""

from __future__ import annotations

import importlib.util
import runpy
from pathlib import Path
from typing import Any

import pytest

from mrpo.config.check import check_files
from mrpo.config.load import load_run_config, prepared_folder
from mrpo.rewards.function import load_function
from tests.unit.recipes.preparing import RECIPES, prepare, prepared, rows
from tests.unit.rewards.library.rows import real_file, real_json

pytestmark = [
    pytest.mark.unit,
    pytest.mark.skipif(importlib.util.find_spec("math_verify") is None, reason="math-verify isn't installed"),
]

RECIPE = RECIPES / "math_length"
VARIANTS = {
    "math_length": (512, 16, 8),
    "math_length/multi_node": (512, 16, 16),
    "math_length/dvao": (128, 16, 8),
    "math_length/dynamo": (512, 16, 8),
    "math_length/cpu": (8, 8, 2),
    "math_length/cpu_sample": (8, 8, 2),
}
"""Prompts per step, rollouts per prompt, trainer ranks."""


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(RECIPE / "prepare.py"))


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """What ``cpu_sample`` prepares, without the model."""
    out = tmp_path_factory.mktemp("sample")
    return out, prepared("math_length", out, "--source", "sample", "--train", "gsm8k", "--test", "gsm8k_test")


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
    assert list(config.rewards) == ["correct", "short"]
    assert config.rewards["short"].options["cap"] < config.data.max_response_length


def test_length_counts_only_where_the_answer_is_right() -> None:
    conditions = load_run_config(["recipe=math_length"])[0].advantage.conditions
    assert [(c.reward, c.requires, c.threshold) for c in conditions] == [("short", "correct", 1)]


def test_variants_differ_where_their_papers_do() -> None:
    dvao, _ = load_run_config(["recipe=math_length/dvao"])
    assert dvao.advantage.estimator == "dvao"
    assert dvao.advantage.weights == {"correct": 0.5, "short": 0.5}
    assert all(condition.threshold == 0 for condition in dvao.advantage.conditions)  # so no condition
    dynamo, _ = load_run_config(["recipe=math_length/dynamo"])
    assert (dynamo.budget.method, dynamo.budget.low, dynamo.budget.high) == ("dynamo", 8, 24)
    assert dynamo.algorithm.token_modulation is not None
    assert dynamo.algorithm.token_modulation.clip_ratio_high == dynamo.actor.clip_ratio_high
    assert dynamo.advantage.weights == {"correct": 1, "short": 0}
    plain, _ = load_run_config(["recipe=math_length", "~rewards.short.requires"])
    assert not plain.advantage.conditions


def test_the_source_is_part_of_what_names_the_prepared_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def folder() -> Path:
        config, recipe = load_run_config(["recipe=math_length"])
        return prepared_folder(recipe, config.prepare, config.seed)

    monkeypatch.delenv("MRPO_DATA", raising=False)
    downloaded = folder()
    monkeypatch.setenv("MRPO_DATA", str(tmp_path))
    assert folder() != downloaded


def test_the_sample_is_prepared_with_counts_and_licence(sample: tuple[Path, str]) -> None:
    out, printed = sample
    assert [len(rows(out / f"{part}.parquet")) for part in ("train", "gsm8k_test")] == [48, 12]
    assert "gsm8k: 48 rows" in printed
    assert "licence: MIT" in printed
    assert "train.parquet: 48 of gsm8k" in printed


def test_every_ground_truth_earns_all_rewards_against_itself(sample: tuple[Path, str]) -> None:
    config, recipe = load_run_config(["recipe=math_length/cpu_sample"])
    functions = [load_function(reward.function, recipe.folder, reward.options) for reward in config.rewards.values()]
    for row in rows(sample[0] / "train.parquet"):
        truth = row["reward_model"]["ground_truth"]
        extra = {**row["extra_info"], "response_tokens": 24}
        response = f"Hence it is $\\boxed{{{truth}}}$."
        assert [function(row["prompt"], response, truth, extra) for function in functions] == [1, 1]
        assert functions[0](row["prompt"], f"It is {truth}1.", truth, extra) == 0


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"answer": "so 1+1 = 2\n#### 1,234"}, "1234"),
        ({"answer": 142.0}, "142"),
        ({"answer": 7}, "7"),
        ({"answer": ["9.6\n"]}, "9.6"),
        ({"answer": "\\frac12 "}, "\\frac12"),
        ({"answer": []}, ""),
        ({"answer": None}, ""),
        ({}, ""),
    ],
)
def test_answers_of_every_source_are_read(script: dict[str, Any], row: dict[str, Any], expected: str) -> None:
    assert script["answer"](row) == expected


def test_rows_that_cannot_be_scored_are_dropped_and_counted(script: dict[str, Any]) -> None:
    given = [{"problem": "p", "answer": answer} for answer in ("2", None, "", "???", "\\frac12")]
    kept, dropped = script["verl_rows"]("deepscaler", enumerate(given))
    assert [row["extra_info"]["index"] for row in kept] == [0, 4]
    assert list(dropped.values()) == [2, 1]


@pytest.mark.parametrize(
    ("name", "file", "count", "most_dropped"),
    [
        ("deepscaler", "train/math/aime.json", 975, 5),
        ("aime", "test/math/aime.json", 30, 0),
        ("math500", "test/math/math.json", 500, 5),
        ("amc", "test/math/amc.json", 83, 0),
    ],
)
def test_real_rows_are_nearly_all_kept(
    script: dict[str, Any], name: str, file: str, count: int, most_dropped: int
) -> None:
    given = real_json(f"deepscaler_rllm/{file}")
    assert len(given) == count
    kept, dropped = script["verl_rows"](name, enumerate(given))
    assert len(kept) + sum(dropped.values()) == count
    assert sum(dropped.values()) <= most_dropped
    assert all(row["prompt"][0]["content"].endswith("\\boxed{}.") for row in kept)


def test_real_files_are_found_below_the_folder_of_copies(tmp_path: Path) -> None:
    folder = real_file("gsm8k/test.jsonl").parents[1]
    printed = prepared(
        "math_length", tmp_path, "--source", str(folder), "--train", "gsm8k", "--test", "gsm8k_test", "aime"
    )
    counts = [len(rows(tmp_path / f"{part}.parquet")) for part in ("train", "gsm8k_test", "aime")]
    assert counts == [7473, 1319, 30]
    assert "dropped" not in printed


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("download", "gsm8k: hf://datasets/openai/gsm8k/main/train-00000-of-00001.parquet can't be downloaded"),
        ("/no/such/folder", "gsm8k: no such folder: /no/such/folder"),
        (str(RECIPES / "quickstart"), "gsm8k: not in"),
    ],
)
def test_data_that_cannot_be_had_are_one_line(source: str, message: str, tmp_path: Path) -> None:
    done = prepare("math_length", tmp_path, "--train", "gsm8k", "--source", source)
    assert done.returncode == 1
    assert done.stderr.startswith(message)
    assert len(done.stderr.splitlines()) == 1
    assert "MRPO_DATA" in done.stderr
    assert not list(tmp_path.iterdir())
