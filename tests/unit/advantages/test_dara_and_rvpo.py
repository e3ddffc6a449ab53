"""Algebra of DARA's equal energies and of RVPO's soft minimum. Shapes: N rollouts, K rewards."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mrpo.advantages import AdvantageResult, compute_advantages

from .strategies import Batch, batches

pytestmark = pytest.mark.unit
NAN = float("nan")


def run(batch: Batch, estimator: str, **options: Any) -> AdvantageResult:
    config = {"estimator": estimator, "names": batch.names, "weights": batch.weights, **options}
    return compute_advantages(batch.rewards_NK, batch.group_ids_N, config, lengths_N=batch.lengths_N)


@settings(max_examples=30, deadline=None)
@given(batches(missing=True), st.sampled_from(["asym", "sym"]))
def test_dara_without_factors_is_gdpo(batch: Batch, form: str) -> None:
    """With a largest factor of 1, and where all rewards vary in the same groups."""
    bounded_N = run(batch, "dara", form=form, w_max=1.0).advantages_N
    torch.testing.assert_close(bounded_N, run(batch, "gdpo").advantages_N, atol=1e-12, rtol=0)
    same = Batch(
        batch.rewards_NK[:, :1].repeat(1, 2), batch.group_ids_N, batch.lengths_N, ("a", "b"), {"a": 1.0, "b": 0.5}
    )
    torch.testing.assert_close(run(same, "dara", form=form).advantages_N, run(same, "gdpo").advantages_N)


@settings(max_examples=40, deadline=None)
@given(batches(rewards=(2, 4), group_sizes=(4, 4), groups=(2, 6)))
def test_symmetric_dara_gives_every_reward_the_same_energy(batch: Batch) -> None:
    """Of the rewards that vary somewhere, in groups of one size: sum of squares B pi_max (G - 1)."""
    energies = []
    for name in batch.names:
        alone = {other: float(other == name) for other in batch.names}
        single = Batch(batch.rewards_NK, batch.group_ids_N, batch.lengths_N, batch.names, alone)
        energy = float(run(single, "advantage_combination").advantages_N.square().sum())
        scale = run(batch, "dara", form="sym", w_max=100.0).diagnostics[f"reward/{name}/dara_scale"]
        energies.append(energy * scale**2)
    varying = [energy for energy in energies if energy > 0]
    assume(varying)
    assert varying == pytest.approx([max(varying)] * len(varying))


def test_daras_asymmetric_form_lifts_praise_alone() -> None:
    rare = torch.tensor([[1.0, 1.0], [0.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    config = {"estimator": "dara", "names": ["a", "b"], "weights": {"a": 1e-9, "b": 1.0}, "batch_norm": "none"}
    advantages_N = compute_advantages(rare, torch.tensor([0, 0, 1, 1]), config).advantages_N
    assert advantages_N.tolist() == pytest.approx([1, -(2**-0.5), 0, 0], abs=1e-6)


def test_a_group_that_a_reward_does_not_apply_to_says_nothing_of_its_density() -> None:
    """b varies in each group that has scores of it, as a does: no factor, though a has twice as many groups."""
    rewards = torch.tensor([[1.0, 1.0], [0.0, 0.0], [1.0, NAN], [0.0, NAN]])
    config = {"estimator": "dara", "names": ["a", "b"]}
    found = compute_advantages(rewards, torch.tensor([0, 0, 1, 1]), config).diagnostics
    assert found["reward/b/dara_scale"] == 1


@settings(max_examples=30, deadline=None)
@given(batches(missing=True, group_sizes=(2, 5)))
def test_rvpo_tends_to_the_mean_and_to_the_minimum(batch: Batch) -> None:
    """Of the advantages of the rewards that a rollout has a score of. The limits are reached from one side each."""
    columns, scored_NK = [], ~batch.rewards_NK.isnan()
    for name in batch.names:
        alone = {other: float(other == name) for other in batch.names}
        single = Batch(batch.rewards_NK, batch.group_ids_N, batch.lengths_N, batch.names, alone)
        columns.append(run(single, "advantage_combination").advantages_N)
    advantages_NK = torch.stack(columns, dim=1)
    weights_NK = torch.tensor(list(batch.weights.values())) * scored_NK
    share_NK = weights_NK / weights_NK.sum(dim=1, keepdim=True).clamp(min=1e-9)
    mean_N = (share_NK * advantages_NK).sum(dim=1)
    minimum_N = advantages_NK.masked_fill(~scored_NK, torch.inf).amin(dim=1)
    minimum_N = minimum_N.masked_fill(~scored_NK.any(dim=1), 0.0)
    for beta, expected_N, tolerance in ((1e-9, mean_N, 1e-7), (1e9, minimum_N, 1e-7)):
        found_N = run(batch, "rvpo", beta=beta, batch_norm="none").advantages_N
        torch.testing.assert_close(found_N, expected_N, atol=tolerance, rtol=0)
    between_N = run(batch, "rvpo", beta=2.0, batch_norm="none").advantages_N
    assert (between_N <= mean_N + 1e-9).all()
    assert (between_N >= minimum_N - 1e-9).all()


@settings(max_examples=30, deadline=None)
@given(batches(missing=True, rewards=(2, 4)))
def test_rvpo_at_a_small_beta_is_gdpo(batch: Batch) -> None:
    """Where each rollout has all scores: GDPO sums over those that there are, RVPO takes their mean."""
    complete = Batch(
        batch.rewards_NK.nan_to_num(nan=0.5), batch.group_ids_N, batch.lengths_N, batch.names, batch.weights
    )
    assume(float(run(complete, "gdpo", batch_norm="none").advantages_N.abs().max()) > 1e-3)
    soft_N = run(complete, "rvpo", beta=1e-7).advantages_N
    torch.testing.assert_close(soft_N, run(complete, "gdpo").advantages_N, atol=1e-4, rtol=1e-4)


@settings(max_examples=30, deadline=None)
@given(batches(missing=True, rewards=(2, 4)), st.floats(0.01, 50))
def test_what_rewards_contribute_to_rvpo_is_its_advantage(batch: Batch, beta: float) -> None:
    """And of two rewards of one weight, the one that is lower has the larger share of a rollout's advantage."""
    result = run(batch, "rvpo", beta=beta, batch_norm="none")
    shares = [v for name, v in result.diagnostics.items() if name.endswith("/advantage_share")]
    assert not shares or sum(shares) == pytest.approx(1)
    low = [[1.0, 1.0], [0.0, 1.0], [1.0, 0.0], [0.9, 1.0]]
    config = {"estimator": "rvpo", "names": ["a", "b"], "beta": beta, "batch_norm": "none"}
    found = compute_advantages(torch.tensor(low), torch.zeros(4, dtype=torch.int64), config)
    assert found.advantages_N[2] < found.advantages_N[3]
