"""The tool_calling recipe: configs of all variants, its data from the public files, and what BFCL counts as right."""

from __future__ import annotations

import json
import runpy
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from mrpo.advantages import compute_advantages
from mrpo.config.check import check_files
from mrpo.config.estimators import PapoConfig
from mrpo.config.load import load_run_config, prepared_folder
from mrpo.config.run import RunConfig
from mrpo.errors import ConfigError
from mrpo.prepare.bfcl import an_answer, turn
from mrpo.prepare.rows import make_row
from mrpo.rewards.function import load_function
from tests.unit.rewards.library.rows import real_file

pytestmark = pytest.mark.unit

RECIPE = Path(__file__).parents[3] / "recipes" / "tool_calling"
VARIANTS = ("tool_calling", "tool_calling/gd2po", "tool_calling/multi_node", "tool_calling/cpu")
COUNTS = {
    "rlla": 80,
    "bfcl/simple_python": 400,
    "bfcl/live_simple": 258,
    "bfcl/multiple": 200,
    "bfcl/parallel": 200,
    "bfcl/parallel_multiple": 200,
    "bfcl/irrelevance": 240,
    "api_bank/level-1": 399,
    "api_bank/level-2": 67,
    "api_bank/level-3": 131,
}
Row = dict[str, Any]


@pytest.fixture(scope="module")
def data() -> dict[str, Any]:
    return runpy.run_path(str(RECIPE / "prepare.py"))


@pytest.fixture(scope="module")
def rows(data: dict[str, Any]) -> list[Row]:
    files: dict[str, list[Row]] = data["evaluation"](real_file("toolrl/dataset/rlla_4k/test.parquet").parents[3])
    return [row for of_file in files.values() for row in of_file]


def load(variant: str, *overrides: str) -> RunConfig:
    config, recipe = load_run_config([f"recipe={variant}", *overrides])
    check_files(config, recipe, prepared_folder(recipe, config.prepare, config.seed))
    return config


def benchmark_row(data_source: str, truth: str, accepts: Any = None) -> Row:
    extra = {"split": "test", "accepts": "" if accepts is None else json.dumps(accepts)}
    return dict(make_row(data_source, "question", truth, index=0, **extra))


def accuracy(response: str, row: Row) -> float | None:
    extra = {**row["extra_info"], "data_source": row["data_source"]}
    score = load_function("rewards.py:accuracy", RECIPE)([], response, row["reward_model"]["ground_truth"], extra)
    assert score is None or isinstance(score, float)
    return score


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_loads_and_its_files_are_checked(variant: str) -> None:
    config = load(variant)
    assert list(config.rewards) == ["correct", "format", "length", "accuracy"]
    assert config.rewards["accuracy"].weight == 0
    assert config.model.dtype == config.rollout.dtype


@pytest.mark.parametrize(
    ("variant", "rollouts", "optimizer_steps", "ranks"),
    [
        ("tool_calling", 2048, 4, 8),
        ("tool_calling/gd2po", 2048, 4, 8),
        ("tool_calling/multi_node", 2048, 1, 16),
        ("tool_calling/cpu", 32, 1, 2),
    ],
)
def test_batches_are_the_papers(variant: str, rollouts: int, optimizer_steps: int, ranks: int) -> None:
    config = load(variant)
    assert config.rollouts_per_step == rollouts
    assert config.data.train_batch_size // config.mini_batch_size == optimizer_steps
    assert config.ranks == ranks


def test_gdpo_trains_on_two_rewards_and_gd2po_on_three() -> None:
    weights = {v: {n: r.weight for n, r in load(v).rewards.items()} for v in ("tool_calling", "tool_calling/gd2po")}
    assert weights["tool_calling"] == {"correct": 1, "format": 1, "length": 0, "accuracy": 0}
    assert weights["tool_calling/gd2po"] == {"correct": 1, "format": 1, "length": 1, "accuracy": 0}
    assert load("tool_calling/gd2po").algorithm.estimator == "gd2po"
    assert load("tool_calling/gd2po").actor.kl_loss_coef == 0


def test_papo_compares_the_format_among_wholly_right_calls() -> None:
    config = load("tool_calling/papo")
    assert config.algorithm == PapoConfig(outcome="correct", outcome_threshold=2.999)
    assert config.rewards["correct"].range == (-3, 3)


def test_the_public_files_become_as_many_rows(rows: list[Row]) -> None:
    assert Counter(row["data_source"] for row in rows) == COUNTS


def test_rows_have_verls_schema_and_the_same_columns(rows: list[Row]) -> None:
    for row in rows:
        assert row.keys() == {"data_source", "prompt", "reward_model", "extra_info"}
        assert row["extra_info"].keys() == {"index", "split", "accepts"}
        assert [message["role"] for message in row["prompt"]] == ["system", "user"]
        assert "<tool_call>" in row["prompt"][0]["content"]  # how to answer
        assert "**Dialogue Records History**" in row["prompt"][1]["content"]


def test_every_ground_truth_scored_against_itself_is_worth_the_most(rows: list[Row], data: dict[str, Any]) -> None:
    data["check_truths"](rows)  # correctness and format; raises if one isn't
    for row in rows:
        expected = None if row["data_source"] == "rlla" else 1.0
        assert accuracy(row["reward_model"]["ground_truth"], row) == expected, row


def test_bfcl_accepts_each_of_its_possible_answers_and_not_another_call(rows: list[Row], data: dict[str, Any]) -> None:
    judged = 0
    for row in rows:
        if not row["data_source"].startswith("bfcl/") or row["data_source"] == "bfcl/irrelevance":
            continue
        calls = [an_answer(call) for call in json.loads(row["extra_info"]["accepts"])]
        assert accuracy(turn(calls[::-1]), row) == 1  # in any order
        assert accuracy(turn([*calls, {"name": "other", "parameters": {}}]), row) == 0
        assert accuracy(turn(calls[1:]), row) == 0
        accepted = json.loads(row["extra_info"]["accepts"])[0]["parameters"]
        for key, wanted in accepted.items():
            for option in wanted["options"]:
                if option == "" or isinstance(option, dict | list):
                    continue
                call = {**calls[0], "parameters": {**calls[0]["parameters"], key: option}}
                judged += 1
                assert accuracy(turn([call, *calls[1:]]), row) == 1, (row["extra_info"], key, option)
            call = {**calls[0], "parameters": {**calls[0]["parameters"], key: ["surely", "not", "this"]}}
            assert accuracy(turn([call, *calls[1:]]), row) == 0
    assert judged > 3000


def test_where_no_tool_fits_only_a_turn_without_a_call_is_right(rows: list[Row], data: dict[str, Any]) -> None:
    row = next(row for row in rows if row["data_source"] == "bfcl/irrelevance")
    assert accuracy("<think> hm </think>\n<response> I can't. </response>", row) == 1
    assert accuracy(turn([{"name": "f", "parameters": {}}]), row) == 0


ACCEPTS = {
    "name": "book.flight",
    "parameters": {
        "to": {"options": ["San Francisco, CA", "SF"], "must": True},
        "seats": {"options": [2], "must": True},
        "meal": {"options": ["", "none"], "must": False},
        "legs": {"options": [[{"from": ["LA", "Los Angeles"], "day": ["", 1]}]], "must": True},
    },
}
GIVEN = {"to": "SF", "seats": 2, "legs": [{"from": "LA"}]}


@pytest.mark.parametrize(
    ("changed", "right"),
    [
        ({}, True),
        ({"to": "san francisco ca"}, True),
        ({"to": "Los Angeles"}, False),
        ({"seats": 2.0}, True),
        ({"seats": "2"}, False),
        ({"seats": True}, False),
        ({"meal": "none"}, True),
        ({"meal": "beans"}, False),
        ({"window": True}, False),
        ({"legs": [{"from": "los angeles", "day": 1}]}, True),
        ({"legs": [{"from": "LA", "day": 2}]}, False),
        ({"legs": [{"day": 1}]}, False),
        ({"legs": [{"from": "LA", "gate": 1}]}, False),
        ({"legs": []}, False),
        ({"legs": [{"from": "LA"}, {"from": "LA"}]}, False),
    ],
)
def test_bfcls_rules_by_hand(changed: dict[str, Any], right: bool, data: dict[str, Any]) -> None:
    truth = turn([{"name": "book.flight", "parameters": GIVEN}])
    row = benchmark_row("bfcl/simple_python", truth, [ACCEPTS])
    response = turn([{"name": "book.flight", "parameters": {**GIVEN, **changed}}])
    assert accuracy(response, row) == float(right)
    assert accuracy(turn([{"name": "bookflight", "parameters": GIVEN}]), row) == 0
    assert accuracy("no call", row) == 0


def test_api_bank_doesnt_mind_a_second_call(data: dict[str, Any]) -> None:
    call, other = {"name": "f", "parameters": {"x": "1"}}, {"name": "g", "parameters": {}}
    row = benchmark_row("api_bank/level-1", turn([call]))
    assert accuracy(turn([other, call]), row) == 1
    assert accuracy(turn([{"name": "f", "parameters": {"x": 1}}]), row) == 0


def test_a_training_row_isnt_a_benchmarks(data: dict[str, Any]) -> None:
    truth = turn([{"name": "f", "parameters": {}}])
    assert accuracy(truth, benchmark_row("rlla", truth)) is None


def test_a_missing_file_is_reported_in_a_line_with_where_to_get_it(data: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"rlla_4k/test.parquet: not in .*MRPO_DATA.*https://") as error:
        data["evaluation"](tmp_path)
    assert "\n" not in str(error.value)


def test_a_broken_ground_truth_is_named_by_its_row(data: dict[str, Any]) -> None:
    row = data["rlla_row"]("tools", "question", "<think> a </think>\n<tool_call>\n{\n</tool_call>", 7, "train")
    with pytest.raises(ConfigError, match="rlla 7: ground truth"):
        data["check_truths"]([row])


def test_the_source_is_part_of_what_names_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MRPO_DATA", "/some/where else")
    config = load("tool_calling")
    assert config.prepare == "prepare.py --source '/some/where else'"
    monkeypatch.delenv("MRPO_DATA")
    assert load("tool_calling").data.train_files != config.data.train_files


def test_the_grpo_baseline_weighs_a_right_call_six_times_as_much_as_its_form() -> None:
    """The papers sum [-3, 3] and [0, 1] as they are."""
    config = load("tool_calling", "algorithm.estimator=grpo", "algorithm.std=false").advantage
    right_or_form = torch.tensor([[-3.0, 0.0], [3.0, 0.0], [3.0, 0.0], [3.0, 1.0]])
    scores_NK = torch.cat([right_or_form, torch.zeros(4, 2)], dim=1)
    assert config.names == ("correct", "format", "length", "accuracy")
    right, form = compute_advantages(scores_NK, torch.tensor([0, 0, 1, 1]), config).advantages_N[1::2].tolist()
    assert (right, form) == (3, 0.5)
