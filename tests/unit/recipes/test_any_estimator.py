"""Every recipe takes every estimator by one override, and rewards in its ranges become advantages."""

from __future__ import annotations

import pytest
import torch

from mrpo.advantages import compute_advantages
from mrpo.advantages.conditioning import condition_rewards
from mrpo.config.load import load_run_config
from mrpo.registry import module_names

pytestmark = pytest.mark.unit

RECIPES = ("quickstart", "calculator", "smollm2", "code", "math_length", "safe_alignment", "tool_calling")


@pytest.mark.parametrize("estimator", module_names("mrpo.advantages.estimators"))
@pytest.mark.parametrize("recipe", RECIPES)
def test_an_estimator_is_one_override_away(recipe: str, estimator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for model in ("MRPO_HELPFUL_MODEL", "MRPO_HARMLESS_MODEL"):
        monkeypatch.setenv(model, "someone/model")
    config = load_run_config([f"recipe={recipe}", f"algorithm.estimator={estimator}"])[0].advantage
    assert config.estimator == estimator
    torch.manual_seed(0)
    low_K, high_K = torch.tensor([config.ranges[reward] for reward in config.names]).T
    scores_NK = low_K + (high_K - low_K) * torch.rand(32, len(config.names))
    if recipe == "tool_calling":
        scores_NK[:, config.names.index("accuracy")] = torch.nan  # no training prompt is a benchmark's
    advantages_N = compute_advantages(scores_NK, torch.arange(32) // 4, config).advantages_N
    assert advantages_N.isfinite().all()
    assert advantages_N.abs().sum() > 0


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_baseline_sums_scores_in_their_own_units(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """GRPO compares the weighted sum of the rewards as they come, as the papers' baselines do."""
    for model in ("MRPO_HELPFUL_MODEL", "MRPO_HARMLESS_MODEL"):
        monkeypatch.setenv(model, "someone/model")
    baseline = ["algorithm.estimator=grpo", "algorithm.std=false"]
    config = load_run_config([f"recipe={recipe}", *baseline])[0].advantage
    low_K, high_K = torch.tensor([config.ranges[reward] for reward in config.names]).double().T
    torch.manual_seed(0)
    scores_NK = low_K + (high_K - low_K) * torch.rand(32, len(config.names), dtype=torch.float64).round(decimals=1)
    counted_NK = condition_rewards(scores_NK, config.names, config.conditions)
    sums_N = (counted_NK * torch.tensor(list(config.weights.values()))).sum(dim=1)
    expected_N = sums_N - sums_N.reshape(-1, 4).mean(dim=1).repeat_interleave(4)
    advantages_N = compute_advantages(scores_NK, torch.arange(32) // 4, config).advantages_N
    torch.testing.assert_close(advantages_N, expected_N)
