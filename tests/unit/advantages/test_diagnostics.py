"""Metrics that tell estimators apart, on batches made to show one thing each. Shapes: N rollouts, K rewards."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings

from mrpo.advantages import compute_advantages, diagnostics

from .strategies import ESTIMATORS, Batch, batches

pytestmark = pytest.mark.unit
NAN = float("nan")


def metrics(rewards: Sequence[Sequence[float]], groups: list[int] | None = None, **options: Any) -> dict[str, float]:
    ids_N = torch.tensor(groups or [0] * len(rewards))
    config = {"names": list("abc"[: len(rewards[0])]), **options}
    return compute_advantages(torch.tensor(rewards, dtype=torch.float64), ids_N, config).diagnostics


def test_every_metric_is_in_the_table_and_back() -> None:
    rewards: list[list[float]] = [[1, 0.5], [0, 1], [0, 0.2], [0, NAN]]
    logged: set[str] = set()
    for name in ESTIMATORS:
        logged |= metrics(rewards, estimator=name, ranges={"a": [0, 1]}).keys()
    generic = {re.sub(r"reward/[ab]/", "reward/<name>/", name) for name in logged}
    generic = {re.sub(r"/a/b$", "/<a>/<b>", name) for name in generic}
    assert diagnostics.__doc__ is not None
    documented = set(re.findall(r"``((?:reward|advantage)/[^`]+)``", diagnostics.__doc__))
    assert generic == documented | {"advantage/std", "advantage/abs_max"}


def test_shares_of_a_reward() -> None:
    found = metrics([[1, 0.5], [0, 0.5], [0.5, NAN], [0.5, 0.7]], [0, 0, 1, 1], ranges={"b": [0, 2]})
    assert found["reward/a/mean"] == 0.5
    assert found["reward/a/zero_variance_share"] == 0.5
    assert found["reward/b/zero_variance_share"] == 1.0, "the second group has one score of b, so nothing to compare"
    assert found["reward/b/missing_share"] == 0.25
    assert found["reward/b/saturation"] == pytest.approx((0.5 + 0.5 + 0.7) / 3 / 2)
    assert found["reward/b/out_of_range_share"] == 0
    assert found["advantage/zero_variance_share"] == 0.5


def test_conflict_and_correlation_of_opposite_and_equal_rewards() -> None:
    opposite = metrics([[1, 0], [0, 1], [0.5, 0.5]])
    assert opposite["advantage/correlation/a/b"] == pytest.approx(-1)
    assert opposite["advantage/conflict/a/b"] == pytest.approx(2 / 3)
    assert opposite["advantage/conflict_share"] == pytest.approx(2 / 3)
    equal = metrics([[1, 1], [0, 0], [0.5, 0.5]])
    assert equal["advantage/correlation/a/b"] == pytest.approx(1)
    assert equal["advantage/conflict/a/b"] == 0


def test_collapse_is_seen_where_the_sum_loses_groups() -> None:
    """(0,0)(1,1) and (0,0)(0,1): GRPO gives both ∓.7071, GDPO distinguishes them."""
    rewards, groups = [[0, 0], [1, 1], [0, 0], [0, 1]], [0, 0, 1, 1]
    grpo, gdpo = (metrics(rewards, groups, estimator=name) for name in ("grpo", "gdpo"))
    assert grpo["advantage/distinct_rewards"] == gdpo["advantage/distinct_rewards"] == 2
    assert grpo["advantage/collapse"] == 0.5
    assert gdpo["advantage/collapse"] == 0


def test_a_dominant_reward_shows_in_its_share_of_the_sum_only() -> None:
    rewards: list[list[float]] = [[10, 0], [-10, 0.1], [10, 0.2], [-10, 0.3]]
    assert metrics(rewards, estimator="grpo")["reward/a/advantage_share"] > 0.99
    assert metrics(rewards, estimator="gdpo")["reward/a/effective_weight"] == pytest.approx(0.5)


@settings(max_examples=30, deadline=None)
@given(batches(rewards=(2, 4), missing=True))
def test_shares_of_the_advantage_sum_to_1(batch: Batch) -> None:
    for estimator in ESTIMATORS:
        config = {"estimator": estimator, "names": batch.names, "weights": batch.weights}
        found = compute_advantages(batch.rewards_NK, batch.group_ids_N, config).diagnostics
        for key in ("advantage_share", "effective_weight"):
            shares = [found[f"reward/{name}/{key}"] for name in batch.names if f"reward/{name}/{key}" in found]
            assert not shares or sum(shares) == pytest.approx(1)
