"""The smollm2 recipe's rewards, data and configs. Nothing is downloaded; the model isn't needed."""

from __future__ import annotations

import random
import runpy
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mrpo.config.load import load_run_config
from mrpo.errors import ConfigError
from mrpo.rewards.function import load_function

pytestmark = pytest.mark.unit

RECIPE = Path(__file__).parents[3] / "recipes" / "smollm2"


def score(name: str, response: str, truth: str = "", tokens: int = 1) -> float:
    value = load_function(f"rewards.py:{name}", RECIPE)([], response, truth, {"response_tokens": tokens})
    assert isinstance(value, float)
    return value


@pytest.fixture(scope="module")
def prepare() -> dict[str, Any]:
    return runpy.run_path(str(RECIPE / "prepare.py"))


@pytest.mark.parametrize(
    ("response", "correct", "tagged"),
    [
        ("<answer>Oslo</answer>", 1, 1),
        ("The capital of Norway is <answer>Oslo</answer>\n", 1, 1),
        ("The capital of Norway is Oslo.", 1, 0),
        ("oslo", 1, 0),
        ("<answer>Bergen</answer>", 0, 1),
        ("Oslo? No: <answer>Bergen</answer>", 0, 1),
        ("<answer>Oslo</answer> I think", 1, 0),
        ("<answer>Bergen</answer><answer>Oslo</answer>", 1, 0),
        ("<answer></answer>", 0, 0),
        ("<answer>Oslo", 1, 0),
        ("Oslofjord", 0, 0),
        ("", 0, 0),
    ],
)
def test_capital_is_judged_between_the_tags_if_there_are_any(response: str, correct: int, tagged: int) -> None:
    assert score("correct", response, "Oslo") == correct
    assert score("tagged", response, "Oslo") == tagged


def test_names_of_several_words_are_found_whole() -> None:
    assert score("correct", "It is Buenos Aires.", "Buenos Aires") == 1
    assert score("correct", "It is Buenos.", "Buenos Aires") == 0
    assert score("correct", "<answer>Port-au-Prince</answer>", "Port-au-Prince") == 1


@pytest.mark.parametrize(("name", "limit"), [("short_answer", 16), ("short_sentence", 16)])
def test_short_ends_after_its_limit(name: str, limit: int) -> None:
    assert [score(name, "anything", tokens=limit + more) for more in (-1, 0, 1)] == [1, 1, 0]


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("The river sings!", 1),
        ("RIVER!", 1),
        ("A river, a river", 1),
        ("The rivers sing!", 0),
        ("We drove on!", 0),
        ("", 0),
    ],
)
def test_keyword_is_a_whole_word_in_any_case(response: str, expected: int) -> None:
    assert score("keyword", response, "river") == expected


@pytest.mark.parametrize(
    ("response", "expected"), [("Yes! \n", 1), ("Yes!", 1), ("Yes! No", 0), ('"Yes!"', 0), ("", 0)]
)
def test_exclaim_wants_the_last_character(response: str, expected: int) -> None:
    assert score("exclaim", response) == expected


def test_positive_is_graded_and_never_negative() -> None:
    wonderful, good = score("positive", "What a wonderful, lovely river!"), score("positive", "The river is good.")
    assert 0 < good < wonderful <= 1
    assert score("positive", "I hate this terrible river.") == 0
    assert score("positive", "The river is a river.") == 0


@pytest.mark.parametrize(
    ("variant", "rewards"),
    [
        ("smollm2/capitals", ["correct", "tagged", "short"]),
        ("smollm2", ["keyword", "exclaim", "short", "positive"]),
    ],
)
def test_configs_load_and_name_functions_that_exist(variant: str, rewards: list[str]) -> None:
    config, recipe = load_run_config([f"recipe={variant}"])
    assert list(config.rewards) == rewards
    for reward in config.rewards.values():
        assert callable(load_function(reward.function, recipe.folder))
    assert config.model.dtype == config.rollout.dtype


def test_the_conditions_can_be_overridden_away() -> None:
    config, _ = load_run_config(["recipe=smollm2/capitals", "~rewards.tagged.requires", "~rewards.short.requires"])
    assert not config.advantage.conditions


def test_data_have_the_schema_and_no_prompt_twice(prepare: dict[str, Any], tmp_path: Path) -> None:
    prepare["write_data"](tmp_path, random.Random(0))
    for task, total in [("capitals", len(prepare["CAPITALS"])), ("sentences", len(prepare["WORDS"]))]:
        parts = [pd.read_parquet(tmp_path / f"{task}-{part}.parquet") for part in ("train", "test")]
        rows = [row for part in parts for row in part.to_dict("records")]
        assert len(rows) == total
        assert {row["data_source"] for row in rows} == {task}
        assert sorted(row["extra_info"]["index"] for row in rows) == list(range(total))
        assert len({row["prompt"][-1]["content"] for row in rows}) == total
        for row in rows:
            assert row["prompt"][-1]["role"] == "user"
            assert row["reward_model"]["style"] == "rule"
            assert isinstance(row["reward_model"]["ground_truth"], str)


def test_the_answer_is_never_in_the_question(prepare: dict[str, Any]) -> None:
    for country, capital in prepare["CAPITALS"].items():
        assert score("correct", prepare["capital_prompt"](country)[-1]["content"], capital) == 0
        assert capital != "Paris"
    for word in prepare["WORDS"]:
        assert score("keyword", prepare["sentence_prompt"](word)[-1]["content"], word) == 1


def test_seed_decides_the_order(prepare: dict[str, Any], tmp_path: Path) -> None:
    def order(seed: int) -> list[str]:
        prepare["write_data"](tmp_path, random.Random(seed))
        return [row["ground_truth"] for row in pd.read_parquet(tmp_path / "capitals-train.parquet")["reward_model"]]

    assert order(1) == order(1) != order(2)


def test_a_file_of_other_content_is_refused(prepare: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(ConfigError, match="sha256"):
        prepare["check_hash"](tmp_path / "model.gguf", prepare["GGUF_SHA256"])
