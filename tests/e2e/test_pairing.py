"""Every row's rewards and advantage are its own: recomputed from its text, whatever order rollouts finished in."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoTokenizer

from mrpo.advantages import compute_advantages
from mrpo.config.recipes import find_recipe
from mrpo.record.run_folder import RunFolder
from mrpo.rewards.library.distinct import distinct

RUNS = [
    pytest.param("unequal_run", marks=pytest.mark.e2e),
    pytest.param("ahead_run", marks=pytest.mark.e2e),
    pytest.param("continue_run", marks=pytest.mark.proof),
]
NAMES = ("correct", "tagged", "short")
Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def rewards() -> ModuleType:
    spec = importlib.util.spec_from_file_location("quickstart_rewards", find_recipe("quickstart").folder / "rewards.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", params=RUNS)
def run(request: pytest.FixtureRequest) -> RunFolder:
    """On policy, and with rollouts ahead in runs that were killed: of one version each, and of several."""
    found: RunFolder = request.getfixturevalue(request.param)
    return found


def recomputed_advantages(metrics: dict[str, Any], rows: Rows) -> np.ndarray:
    """GDPO with batch norm by the step's weights, then each prompt weighed alike: what the config asks for, from the
    logged scores."""
    weights = {"correct": 1.0, "tagged": 1.0, "short": 0.5 + 0.1 * metrics["step"]}
    scores_NK = torch.tensor([[row["rewards"][name] for name in NAMES] for row in rows], dtype=torch.float64)
    numbers: dict[str, int] = {}
    groups_N = torch.tensor([numbers.setdefault(row["uid"], len(numbers)) for row in rows])
    config = {"estimator": "gdpo", "names": NAMES, "weights": weights}
    advantages_N = compute_advantages(scores_NK, groups_N, config).advantages_N.numpy()
    sizes = Counter(row["uid"] for row in rows)
    return advantages_N * np.array([len(rows) / (len(sizes) * sizes[row["uid"]]) for row in rows])


def each_step(run: RunFolder) -> list[tuple[dict[str, Any], Rows]]:
    metrics = {record["step"]: record for record in run.metrics()}
    return [(metrics[step], run.read_rollouts(step)) for step in run.rollout_steps()]


def test_groups_are_wildly_unequal_and_no_padding_row_is_needed(run: RunFolder) -> None:
    sizes = [n for _, rows in each_step(run) for n in Counter(row["uid"] for row in rows).values()]
    assert min(sizes) == 1
    assert max(sizes) >= 10
    for metrics, rows in each_step(run):
        assert len(rows) == 8 * 8
        assert metrics["rollout/padding_rows"] == 0
        assert metrics["rollout/incomplete_groups"] == 0


def test_every_reward_is_that_of_its_rows_own_text(run: RunFolder, rewards: ModuleType, few_prompts: Path) -> None:
    truth = {
        messages[0]["content"]: reward["ground_truth"]
        for messages, reward in zip(*(pd.read_parquet(few_prompts)[c] for c in ("prompt", "reward_model")), strict=True)
    }
    for _, rows in each_step(run):
        for row in rows:
            assert row["ground_truth"] == truth[row["prompt"]]
            for name in NAMES:
                score: Callable[..., float] = getattr(rewards, name)
                extra = {"response_tokens": row["tokens"]}
                assert row["rewards"][name] == score(None, row["response"], truth[row["prompt"]], extra), row


def test_every_advantage_follows_from_its_own_groups_scores(run: RunFolder) -> None:
    for metrics, rows in each_step(run):
        recomputed = recomputed_advantages(metrics, rows)
        np.testing.assert_allclose([row["advantage"] for row in rows], recomputed, atol=1e-6)


def test_what_follows_the_step_is_a_function_of_it(run: RunFolder) -> None:
    """Also in a run that was killed and went on."""
    for metrics, rows in each_step(run):
        step = metrics["step"]
        assert metrics["reward/short/weight"] == pytest.approx(0.5 + 0.1 * step)
        target = metrics["reward/brief/option/target"]
        assert target == pytest.approx(8 + 2 * step)
        for row in rows:
            assert row["rewards"]["brief"] == pytest.approx(max(0.0, 1 - abs(row["tokens"] - target) / target))


def test_a_group_is_scored_by_all_of_its_own_texts(run: RunFolder) -> None:
    for _, rows in each_step(run):
        groups: dict[str, Rows] = {}
        for row in rows:
            groups.setdefault(row["uid"], []).append(row)
        for group in groups.values():
            expected = distinct([], [row["response"] for row in group], None, [], unit="characters")
            assert [row["rewards"]["diverse"] for row in group] == pytest.approx(expected)


def test_the_tokens_that_were_trained_on_hold_these_advantages(run: RunFolder) -> None:
    """Per-token statistics, by the tokens that the ranks have counted after balancing."""
    for metrics, rows in each_step(run):
        advantages, tokens = (np.array([row[key] for row in rows]) for key in ("advantage", "tokens"))
        assert metrics["advantage/per_token/mean"] == pytest.approx(
            (advantages * tokens).sum() / tokens.sum(), abs=1e-5
        )
        assert metrics["advantage/per_token/max"] == pytest.approx(advantages.max(), abs=1e-5)
        assert metrics["advantage/per_token/min"] == pytest.approx(advantages.min(), abs=1e-5)


def test_a_prompts_uid_is_its_content(run: RunFolder) -> None:
    content: dict[str, set[str]] = {}
    for _, rows in each_step(run):
        for row in rows:
            content.setdefault(row["uid"].partition("-")[0], set()).add(row["prompt"])
    assert len(content) == 8
    assert all(len(prompts) == 1 for prompts in content.values())


def test_token_counts_are_the_texts(run: RunFolder, quickstart: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(quickstart / "model")
    rows = each_step(run)[0][1]
    finished = [row for row in rows if row["tokens"] < 48 and "�" not in row["response"]]
    assert finished
    for row in finished:
        assert row["tokens"] == len(tokenizer.encode(row["response"])) + 1  # the end of the turn
