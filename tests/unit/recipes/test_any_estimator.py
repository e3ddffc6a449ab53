"""Every recipe takes every estimator by one override, and rewards in its ranges become advantages."""

from __future__ import annotations

import pytest
import torch

from mrpo.advantages import compute_advantages
from mrpo.config.load import load_run_config
from mrpo.registry import module_names

pytestmark = pytest.mark.unit

RECIPES = ("quickstart", "smollm2", "code", "math_length", "safe_alignment", "tool_calling")


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
