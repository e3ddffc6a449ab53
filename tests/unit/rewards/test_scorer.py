"""A score, not applicable, or failed with a cause: never one for another."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from mrpo.config.run import RewardConfig
from mrpo.errors import ConfigError
from mrpo.rewards.function import load_function
from mrpo.rewards.outcome import Outcome
from mrpo.rewards.scorer import Scorer

pytestmark = pytest.mark.unit

SOURCE = """
import asyncio, time
def fine(prompt, response, truth, extra): return float(response == truth)
async def later(prompt, response, truth, extra):
    await asyncio.sleep(0); return {"score": 0.5, "why": "because"}
def silent(prompt, response, truth, extra): return None
def raises(prompt, response, truth, extra): raise KeyError("x")
def sleeps(prompt, response, truth, extra): time.sleep(0.5)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rewards.py").write_text(SOURCE)
    return tmp_path


def score(folder: Path, *names: str, timeout: float = 5.0) -> dict[str, Outcome]:
    rewards = {name: RewardConfig(function=f"rewards.py:{name}", timeout=timeout) for name in names}
    return asyncio.run(Scorer(rewards, folder).score([], "a", "a", {}))


def test_sync_and_async_functions_score_side_by_side(folder: Path) -> None:
    assert score(folder, "fine", "later") == {"fine": Outcome(1.0), "later": Outcome(0.5)}


def test_none_is_not_applicable_and_not_a_failure(folder: Path) -> None:
    assert score(folder, "silent") == {"silent": Outcome()}


def test_one_that_raises_costs_the_others_nothing(folder: Path) -> None:
    outcomes = score(folder, "raises", "fine")
    assert outcomes["fine"].score == 1.0
    assert outcomes["raises"] == Outcome(failure="KeyError: 'x'")


def test_one_that_takes_too_long_fails_at_its_timeout(folder: Path) -> None:
    async def timed() -> tuple[float, Outcome]:
        scorer = Scorer({"sleeps": RewardConfig(function="rewards.py:sleeps", timeout=0.05)}, folder)
        start = time.monotonic()
        outcome = (await scorer.score([], "a", "a", {}))["sleeps"]
        return time.monotonic() - start, outcome

    seconds, outcome = asyncio.run(timed())
    assert seconds < 0.4
    assert outcome.failure == "no score within 0.05 s"


@pytest.mark.parametrize(
    ("returned", "cause"),
    [
        (float("nan"), "returned nan"),
        (float("inf"), "returned inf"),
        ("1.0", "returned str, not a number"),
        ([1.0], "returned list, not a number"),
        ({"points": 1}, "returned a dict without 'score': ['points']"),
        (object(), "returned object, not a number"),
    ],
)
def test_what_is_no_score_is_a_failure_with_its_cause(returned: Any, cause: str) -> None:
    assert Outcome.of(returned) == Outcome(failure=cause)


@pytest.mark.parametrize(
    ("returned", "expected"), [(True, 1.0), (3, 3.0), ({"score": None}, None), ({"score": 2}, 2.0)]
)
def test_numbers_booleans_and_dicts_are_read(returned: Any, expected: float | None) -> None:
    assert Outcome.of(returned) == Outcome(expected)


def test_functions_load_from_files_and_modules(folder: Path) -> None:
    assert load_function("rewards.py:fine", folder) is load_function("rewards.py:fine", folder)
    assert load_function("math:sqrt", folder)(4.0) == 2.0  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match="defines no function 'none'"):
        load_function("rewards.py:none", folder)
    with pytest.raises(ConfigError, match="no such file"):
        load_function("absent.py:fine", folder)
