"""Without a ground truth a reward that looks at it fails and says so; it never scores a comparison with nothing."""

from __future__ import annotations

import importlib
import json
import pickle
import re
from collections.abc import Callable
from typing import Any

import pytest

from mrpo.rewards.no_ground_truth import CAUSE, NoGroundTruth
from mrpo.rewards.outcome import Outcome, RewardError

pytestmark = pytest.mark.unit

USES: dict[str, Callable[[Any], Any]] = {
    "equal": lambda truth: truth == "4",
    "equal from the left": lambda truth: "4" == truth,  # noqa: SIM300
    "not equal": lambda truth: truth != "4",
    "member": lambda truth: truth in ["4", "5"],
    "membership": lambda truth: "4" in truth,
    "text": str,
    "format": lambda truth: f"{truth}",
    "repr": repr,
    "truth value": lambda truth: 1 if truth else 0,
    "length": len,
    "loop": list,
    "entry": lambda truth: truth["answer"],
    "number": float,
    "whole number": int,
    "method": lambda truth: truth.strip(),
    "hash": lambda truth: {truth: 1},
    "order": lambda truth: truth < 4,
}


@pytest.mark.parametrize("use", USES)
def test_every_use_is_refused(use: str) -> None:
    with pytest.raises(RewardError) as refused:
        USES[use](NoGroundTruth())
    assert Outcome.raised(refused.value).cause == CAUSE


def test_it_travels_to_the_process_that_scores() -> None:
    kind: Any = NoGroundTruth
    again = pickle.loads(pickle.dumps(("prompt", NoGroundTruth())))[1]
    assert isinstance(again, kind)
    with pytest.raises(TypeError):
        json.loads(again)
    with pytest.raises((TypeError, RewardError)):
        re.search(again, "text")


@pytest.mark.parametrize("name", ["exact_match", "normalized_match", "math"])
def test_rewards_of_the_library_that_compare_give_no_score(name: str) -> None:
    reward = getattr(importlib.import_module(f"mrpo.rewards.library.{name}"), name)
    with pytest.raises((RewardError, ValueError, TypeError)) as refused:
        reward([], r"\boxed{4}", NoGroundTruth(), {"response_tokens": 4})
    assert Outcome.raised(refused.value).score is None


def test_a_reward_that_does_not_look_is_not_disturbed() -> None:
    from mrpo.rewards.library.keywords import keywords

    assert keywords(must=["one"])([], "one and two", NoGroundTruth(), {}) == 1.0
