"""Algebra of GDPO and of GD2PO's filter. Shapes: N rollouts, K rewards, G groups."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mrpo.advantages import AdvantageResult, compute_advantages

from .strategies import Batch, batches

pytestmark = pytest.mark.unit


def run(batch: Batch, estimator: str, **options: Any) -> AdvantageResult:
    config = {"estimator": estimator, "names": batch.names, "weights": batch.weights, **options}
    return compute_advantages(batch.rewards_NK, batch.group_ids_N, config, lengths_N=batch.lengths_N)


def group_sums(batch: Batch, values_N: Tensor) -> list[float]:
    return [float(values_N[batch.group_ids_N == group].sum()) for group in batch.group_ids_N.unique()]


@settings(max_examples=40, deadline=None)
@given(batches(rewards=(1, 1)))
def test_one_reward_has_mean_0_and_sample_variance_1_in_each_group(batch: Batch) -> None:
    advantages_N = run(batch, "gdpo", batch_norm="none", weights={"a": 1}).advantages_N
    assert group_sums(batch, advantages_N) == pytest.approx([0] * len(batch.group_ids_N.unique()), abs=1e-9)
    for group in batch.group_ids_N.unique():
        in_group_N = advantages_N[batch.group_ids_N == group]
        squares, size = float(in_group_N.square().sum()), len(in_group_N)
        assert squares == 0 or squares == pytest.approx(size - 1)
        assert float(in_group_N.abs().max()) <= (size - 1) / size**0.5 + 1e-9


@settings(max_examples=40, deadline=None)
@given(batches(missing=True), st.floats(0.1, 10), st.floats(-5, 5))
def test_units_of_a_reward_are_irrelevant_to_gdpo_and_gd2po(batch: Batch, factor: float, shift: float) -> None:
    rewards_NK = batch.rewards_NK.clone()
    rewards_NK[:, 0] = factor * rewards_NK[:, 0] + shift
    moved = Batch(rewards_NK, batch.group_ids_N, batch.lengths_N, batch.names, batch.weights)
    for estimator, options in (("gdpo", {}), ("gd2po", {"mode": "hard"})):
        given_N, moved_N = (run(b, estimator, **options).advantages_N for b in (batch, moved))
        torch.testing.assert_close(moved_N, given_N, atol=1e-6, rtol=1e-6)


@settings(max_examples=30, deadline=None)
@given(batches(rewards=(2, 3)))
def test_turning_a_rewards_sign_turns_its_advantage(batch: Batch) -> None:
    turned = Batch(-batch.rewards_NK, batch.group_ids_N, batch.lengths_N, batch.names, batch.weights)
    given_N, turned_N = (run(b, "gdpo", batch_norm="none").advantages_N for b in (batch, turned))
    torch.testing.assert_close(turned_N, -given_N, atol=1e-9, rtol=1e-9)


@settings(max_examples=30, deadline=None)
@given(batches(missing=True))
def test_gd2po_drops_nothing_at_tau_0_and_all_conflicts_at_tau_1(batch: Batch) -> None:
    lenient = run(batch, "gd2po", tau=0.0)
    torch.testing.assert_close(lenient.advantages_N, run(batch, "gdpo").advantages_N)
    assert torch.equal(lenient.keep_N, ~batch.rewards_NK.isnan().all(dim=1))
    strict, hard = run(batch, "gd2po", tau=1.0), run(batch, "gd2po", mode="hard")
    assert torch.equal(strict.advantages_N, hard.advantages_N)
    assert torch.equal(strict.keep_N, hard.keep_N)


def test_balanced_conflict_has_no_signal_but_tau_0_keeps_it() -> None:
    batch = Batch(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.zeros(2).long(), torch.ones(2).long(), ("a", "b"), {})
    assert run(batch, "gd2po", tau=0.0).keep_N.tolist() == [True, True]
    assert run(batch, "gd2po", tau=0.01).keep_N.tolist() == [False, False]


@settings(max_examples=30, deadline=None)
@given(batches(rewards=(2, 4), missing=True), st.lists(st.floats(0, 1), min_size=2, max_size=5))
def test_a_higher_tau_keeps_no_rollout_that_a_lower_one_drops(batch: Batch, taus: list[float]) -> None:
    kept = [run(batch, "gd2po", tau=tau).keep_N for tau in sorted(taus)]
    for lower_N, higher_N in pairwise(kept):
        assert not bool((higher_N & ~lower_N).any())


@settings(max_examples=30, deadline=None)
@given(batches(rewards=(1, 1), missing=True))
def test_one_reward_never_conflicts(batch: Batch) -> None:
    result = run(batch, "gd2po", mode="hard")
    assert torch.equal(result.advantages_N, run(batch, "gdpo").advantages_N)


@settings(max_examples=30, deadline=None)
@given(batches(rewards=(2, 3), missing=True), st.floats(0.05, 0.99))
def test_telling_every_reward_twice_changes_no_filter(batch: Batch, tau: float) -> None:
    doubled = Batch(
        torch.cat((batch.rewards_NK, batch.rewards_NK), dim=1),
        batch.group_ids_N,
        batch.lengths_N,
        (*batch.names, *(f"{name}2" for name in batch.names)),
        batch.weights | {f"{name}2": weight for name, weight in batch.weights.items()},
    )
    once, twice = (run(b, "gd2po", tau=tau + 1e-7) for b in (batch, doubled))
    assert torch.equal(once.keep_N, twice.keep_N)


@settings(max_examples=30, deadline=None)
@given(batches(rewards=(2, 4), missing=True), st.floats(0.05, 1))
def test_query_weight_is_the_kept_share_of_scored_rollouts(batch: Batch, tau: float) -> None:
    result = run(batch, "gd2po", tau=tau, query_weight="loss")
    scored_N = ~batch.rewards_NK.isnan().all(dim=1)
    kept, scored = group_sums(batch, result.keep_N.double()), group_sums(batch, scored_N.double())
    expected = [k / s if s else 1 for k, s in zip(kept, scored, strict=True)]
    assert result.loss_weights_N is not None
    for group, share in zip(batch.group_ids_N.unique(), expected, strict=True):
        weights_N = result.loss_weights_N[batch.group_ids_N == group]
        assert weights_N.tolist() == pytest.approx([share] * len(weights_N))


def test_query_weight_before_whitening_and_in_the_loss_are_different_things() -> None:
    rewards = [[1.0, 1.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [1.0, 1.0], [0.0, 0.0], [1.0, 1.0], [0.0, 0.0]]
    batch = Batch(torch.tensor(rewards), torch.tensor([0] * 4 + [1] * 4), torch.ones(8).long(), ("a", "b"), {})
    before, loss, none = (run(batch, "gd2po", query_weight=where) for where in ("pre_whiten", "loss", "none"))
    assert torch.equal(loss.advantages_N, none.advantages_N)
    assert loss.loss_weights_N is not None
    assert loss.loss_weights_N.tolist() == [0.5] * 4 + [1.0] * 4
    assert before.loss_weights_N is none.loss_weights_N is None
    within, across = before.advantages_N[0] / before.advantages_N[4], none.advantages_N[0] / none.advantages_N[4]
    assert float(within / across) == pytest.approx(0.5)


def test_dropped_rollouts_leave_the_loss_or_stay_in_it_with_0() -> None:
    rewards = torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [float("nan")] * 2])
    batch = Batch(rewards, torch.zeros(5).long(), torch.ones(5).long(), ("a", "b"), {})
    leave, stay = run(batch, "gd2po", mode="hard"), run(batch, "gd2po", mode="hard", dropped="stay")
    assert leave.keep_N.tolist() == [True, False, False, True, False]
    assert stay.keep_N.tolist() == [True, True, True, True, False]
    assert torch.equal(leave.advantages_N, stay.advantages_N)
    assert stay.advantages_N[1:3].tolist() == [0, 0]
    assert stay.diagnostics["advantage/keep_ratio"] == 0.5


def test_rounding_makes_no_conflict() -> None:
    """Seven float32 scores of .1 are not equal to their float32 mean; that is no disagreement with the other reward."""
    rewards = torch.tensor([[0.1, score / 7] for score in range(7)])
    batch = Batch(rewards, torch.zeros(7).long(), torch.ones(7).long(), ("a", "b"), {})
    assert run(batch, "gd2po", mode="hard").keep_N.all()


def test_zero_variance_groups_can_leave_the_batch_statistics() -> None:
    rewards = torch.tensor([[0.5], [0.5], [0.5], [0.5], [1.0], [0.0]])
    batch = Batch(rewards, torch.tensor([0, 0, 0, 0, 1, 1]), torch.tensor([9, 9, 9, 9, 3, 1]), ("a",), {})
    inside, outside = (run(batch, "gdpo", batch_norm="token", exclude_zero_variance=flag) for flag in (False, True))
    assert inside.advantages_N[:4].tolist() == outside.advantages_N[:4].tolist() == [0] * 4
    assert float((batch.lengths_N * outside.advantages_N).sum()) == pytest.approx(0, abs=1e-6)
    assert float(inside.advantages_N[4]) != pytest.approx(float(outside.advantages_N[4]), rel=0.1)
