"""Reward functions as other frameworks' users have them, unchanged."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mrpo.config.check import check_reward
from mrpo.config.run import RewardConfig
from mrpo.errors import ConfigError
from mrpo.rewards.function import load_function
from mrpo.rewards.outcome import Outcome

pytestmark = pytest.mark.unit

# The first is of GDPO's release, the next two are of TRL's documentation, then ms-swift's ORM, verl's batch manager.
SOURCE = """
import re

def compute_score(solution_str, ground_truth, step=0):
    return float(solution_str == ground_truth), step, 0.5

def format_reward(completions, **kwargs):
    return [1.0 if re.match(r"^<think>", completion[0]["content"]) else 0.0 for completion in completions]

def accuracy(prompts, completions, ground_truth, level, weight=1.0):
    assert len(prompts) == len(completions) == len(ground_truth) == len(level) == 1
    return [None if level[0] == "hard" else weight * (completions[0] == ground_truth[0])]

async def later(completions, **kwargs):
    return [0.25]

class Countdown:
    def __init__(self, factor=1):
        self.factor = factor
    def __call__(self, completions, target, **kwargs):
        return [self.factor * float(text == goal) for text, goal in zip(completions, target)]

def batch(data_sources, solution_strs, ground_truths, extra_infos):
    return [{"score": float(text == truth), "source": source}
            for source, text, truth in zip(data_sources, solution_strs, ground_truths)]

def reward_func(queries, prompts, labels):
    return {"rewards": [1.0]}

def several(completions, **kwargs):
    return [1.0, 2.0]
"""
CHAT = [{"role": "user", "content": "1+1"}]
EXTRA = {"data_source": "sums", "level": "easy", "target": "2", "index": 4}
TEXT = {"prompt_is_text": True}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rewards.py").write_text(SOURCE)
    return tmp_path


def call(folder: Path, name: str, response: str = "2", extra: dict[str, Any] | None = None, **options: Any) -> Any:
    function = load_function(f"rewards.py:{name}", folder, options)
    returned = function(CHAT, response, "2", {**EXTRA, **(extra or {})})
    return asyncio.run(returned) if asyncio.iscoroutine(returned) else returned


def test_verls_scores_may_take_less_than_verl_passes_and_be_a_tuple(folder: Path) -> None:
    assert call(folder, "compute_score", step=3) == (1.0, 3, 0.5)
    assert Outcome.of((1.0, 3, 0.5), key="0") == Outcome(1.0)
    assert Outcome.of((1.0, 3, 0.5), key="2", range=(0, 1)) == Outcome(0.5)
    for key in ("score", "3"):
        assert (failure := Outcome.of((1.0, 3, 0.5), key=key).failure)
        assert "a tuple of 3; say which entry is the score: key: 0" in failure
    assert RewardConfig.model_validate({"function": "f", "key": 0}).key == "0"


def test_trls_completions_are_chats_where_the_prompt_is_one(folder: Path) -> None:
    assert call(folder, "format_reward", "<think>") == 1.0
    assert call(folder, "format_reward", "2") == 0.0


def test_trls_completions_are_texts_where_the_prompt_is_one_and_columns_are_arguments(folder: Path) -> None:
    assert call(folder, "accuracy", "2", TEXT, weight=2.0) == 2.0
    assert call(folder, "accuracy", "3", TEXT) == 0
    assert call(folder, "accuracy", "2", {**TEXT, "level": "hard"}) is None


def test_an_async_one_is_awaited(folder: Path) -> None:
    assert call(folder, "later") == 0.25


def test_ms_swifts_classes_get_texts(folder: Path) -> None:
    assert call(folder, "Countdown", factor=3) == 3.0
    assert call(folder, "Countdown", "3", factor=3) == 0.0


def test_verls_batch_functions_get_lists(folder: Path) -> None:
    assert call(folder, "batch") == {"score": 1.0, "source": "sums"}


def test_openrlhfs_are_refused_with_the_adapter_to_write(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"(?s)OpenRLHF's reward functions.*def reward\(prompt, response"):
        call(folder, "reward_func")


def test_more_scores_than_responses_are_no_score(folder: Path) -> None:
    with pytest.raises(TypeError, match=r"given \[1.0, 2.0\], allowed: a list with one score"):
        call(folder, "several")


@pytest.mark.parametrize("name", ["compute_score", "format_reward", "accuracy", "Countdown", "batch"])
def test_the_configuration_takes_them(folder: Path, name: str) -> None:
    check_reward("rewards.r", RewardConfig(function=f"rewards.py:{name}"), folder)
