"""Every estimator of the family is one override away, and takes what the quickstart's rewards declare."""

from __future__ import annotations

import pytest
import torch

from mrpo.advantages import compute_advantages
from mrpo.config.load import load_run_config
from mrpo.registry import module_names

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("estimator", module_names("mrpo.advantages.estimators"))
def test_the_quickstart_runs_with_every_estimator(estimator: str) -> None:
    config, _ = load_run_config(["recipe=quickstart", f"algorithm.estimator={estimator}"])
    rewards_NK = torch.randint(0, 2, (32, 3), generator=torch.Generator().manual_seed(0)).double()
    result = compute_advantages(rewards_NK, torch.arange(32) % 4, config.advantage, lengths_N=torch.arange(1, 33))
    assert bool(result.advantages_N.isfinite().all())
    assert float(result.advantages_N.abs().max()) > 0
