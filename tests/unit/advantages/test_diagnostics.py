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


def metrics(
    rewards: Sequence[Sequence[float]],
    groups: list[int] | None = None,
    lengths: list[int] | None = None,
    **options: Any,
) -> dict[str, float]:
    ids_N, lengths_N = torch.tensor(groups or [0] * len(rewards)), None if lengths is None else torch.tensor(lengths)
    config = {"names": list("abc"[: len(rewards[0])]), **options}
    rewards_NK = torch.tensor(rewards, dtype=torch.float64)
    return compute_advantages(rewards_NK, ids_N, config, lengths_N=lengths_N).diagnostics


def test_every_metric_is_in_the_table_and_back() -> None:
    rewards: list[list[float]] = [[1, 0.5], [0, 1], [0, 0.2], [0, NAN], [1, 1], [0, 0.9]]
    logged: set[str] = set()
    for name in ESTIMATORS:
        lengths = [3, 1, 4, 1, 5, 9]
        logged |= metrics(rewards, [0] * 4 + [1] * 2, lengths, estimator=name, ranges={"a": [0, 1]}).keys()
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


def test_correlation_with_length_is_within_groups() -> None:
    """The long group earns more of ``a``, while in each group the longer response earns less; ``b`` says nothing."""
    found = metrics([[1, 1], [0, 0], [9, 1], [8, 0]], [0, 0, 1, 1], [10, 20, 110, 120])
    assert found["reward/a/length_correlation"] == pytest.approx(-1)
    crossed = metrics([[1, 1], [0, 0], [0, 1], [1, 0]], [0, 0, 1, 1], [10, 20, 110, 120])
    assert crossed["reward/a/length_correlation"] == pytest.approx(0)
    unknown = metrics([[1, 1], [0, 0]], [0, 0]), metrics([[1, 1], [0, 0]], [0, 0], [7, 7])
    assert not [name for of in unknown for name in of if name.endswith("length_correlation")]
    partly = metrics([[1, 1], [0, NAN], [0.5, 0]], [0, 0, 0], [3, 2, 1])
    assert partly["reward/b/length_correlation"] == pytest.approx(2**-0.5 / (0.5**0.5 * 2**0.5) * 2**0.5)
    assert partly["reward/a/length_correlation"] == pytest.approx(0.5)


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
@given(batches(rewards=(1, 3), group_sizes=(3, 3), groups=(2, 6)))
def test_energy_is_groups_times_density_times_size_less_1(batch: Batch) -> None:
    config = {"estimator": "gdpo", "names": batch.names, "weights": batch.weights}
    found = compute_advantages(batch.rewards_NK, batch.group_ids_N, config).diagnostics
    groups, rollouts = len(batch.group_ids_N.unique()), len(batch.group_ids_N)
    for name in batch.names:
        density = found[f"reward/{name}/density"]
        assert density == pytest.approx(1 - found[f"reward/{name}/zero_variance_share"])
        assert found[f"reward/{name}/energy"] * rollouts == pytest.approx(groups * density * (3 - 1))
        assert found.get(f"reward/{name}/energy_ratio", 1.0) == pytest.approx(1)


def test_density_and_energy_of_a_reward_that_few_groups_have() -> None:
    found = metrics([[1, 1], [0, 0], [1, NAN], [1, NAN], [0, 1], [1, NAN]], [0, 0, 1, 1, 2, 2])
    assert (found["reward/a/density"], found["reward/b/density"]) == (pytest.approx(2 / 3), 1)
    assert (found["reward/a/energy"], found["reward/b/energy"]) == (pytest.approx(2 / 6), pytest.approx(1 / 6))


@settings(max_examples=30, deadline=None)
@given(batches(rewards=(2, 4), missing=True))
def test_shares_of_the_advantage_sum_to_1(batch: Batch) -> None:
    for estimator in ESTIMATORS:
        config = {"estimator": estimator, "names": batch.names, "weights": batch.weights}
        found = compute_advantages(batch.rewards_NK, batch.group_ids_N, config).diagnostics
        for key in ("advantage_share", "effective_weight"):
            shares = [found[f"reward/{name}/{key}"] for name in batch.names if f"reward/{name}/{key}" in found]
            assert not shares or sum(shares) == pytest.approx(1)
