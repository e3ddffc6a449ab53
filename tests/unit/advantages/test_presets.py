"""Presets against the libraries' own code and a loop that spells NeMo's formula out. Shapes: N rollouts, K rewards."""

from __future__ import annotations

import statistics

import pytest
import torch
from hypothesis import assume, given, settings
from torch import Tensor

from mrpo.advantages import compute_advantages, write_tokens

from .peers import swift_advantages, trl_advantages, verl_gdpo
from .strategies import Batch, batches

pytestmark = pytest.mark.unit


def config(batch: Batch, **options: object) -> dict[str, object]:
    return {"estimator": "gdpo", "names": batch.names, "weights": batch.weights, **options}


@settings(max_examples=60, deadline=None)
@given(batches(levels=5))
def test_verl_preset_is_verl_on_unequal_groups_and_lengths(batch: Batch) -> None:
    """Scores on a dyadic grid: elsewhere verl's float32 means of equal scores leak (a test below). In a batch without
    any spread verl divides what rounding left by its epsilon's root; ours is 0."""
    assume(int(batch.lengths_N.sum()) > 1)
    rewards_NK = batch.rewards_NK.float()
    theirs_NT, mask_NT = verl_gdpo(rewards_NK, batch.group_ids_N, batch.lengths_N, list(batch.weights.values()))
    ours = compute_advantages(rewards_NK, batch.group_ids_N, config(batch, preset="verl"), lengths_N=batch.lengths_N)
    assume(bool(ours.advantages_N.any()))
    torch.testing.assert_close(write_tokens(ours.advantages_N, mask_NT), theirs_NT, atol=5e-4, rtol=1e-4)


def test_verl_preset_follows_verl_into_a_group_of_one() -> None:
    rewards_NK = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.5, 1.0]])
    group_ids_N, lengths_N = torch.tensor([7, 7, 3]), torch.tensor([3, 1, 4])
    theirs_NT, mask_NT = verl_gdpo(rewards_NK, group_ids_N, lengths_N, [1.0, 1.0])
    options = {"estimator": "gdpo", "names": ["a", "b"], "preset": "verl"}
    ours = compute_advantages(rewards_NK, group_ids_N, options, lengths_N=lengths_N)
    torch.testing.assert_close(write_tokens(ours.advantages_N, mask_NT), theirs_NT, atol=1e-5, rtol=0)
    assert ours.advantages_N[2] > ours.advantages_N[0], "the lone rollout's raw score outweighs a real win"


def test_equal_scores_leak_through_verls_float32_but_not_through_ours() -> None:
    rewards_NK = torch.tensor([[0.7]] * 7 + [[0.0], [1.0]])
    group_ids_N, lengths_N = torch.tensor([0] * 7 + [1] * 2), torch.ones(9, dtype=torch.int64)
    theirs_NT, _ = verl_gdpo(rewards_NK, group_ids_N, lengths_N, [1.0])
    assert float((theirs_NT[0] - theirs_NT[7:].mean()).abs()) > 0.01
    ours = compute_advantages(rewards_NK, group_ids_N, {"names": ["a"]})
    assert ours.advantages_N[:7].tolist() == [0] * 7


def test_verl_preset_refuses_what_turns_verls_batch_into_nan() -> None:
    rewards_NK = torch.tensor([[1.0, 0.0], [0.0, float("nan")], [0.5, 1.0], [0.0, 0.0]])
    group_ids_N, lengths_N = torch.tensor([0, 0, 1, 1]), torch.tensor([2, 2, 2, 2])
    theirs_NT, _ = verl_gdpo(rewards_NK, group_ids_N, lengths_N, [1.0, 1.0])
    assert theirs_NT.isnan().all()
    options = {"estimator": "gdpo", "names": ["a", "b"], "preset": "verl"}
    with pytest.raises(ValueError, match="reward 'b' is missing in 1 rows"):
        compute_advantages(rewards_NK, group_ids_N, options, lengths_N=lengths_N)


@settings(max_examples=60, deadline=None)
@given(batches(missing=True, group_sizes=(3, 3)))
def test_trl_preset_is_trl_with_missing_scores(batch: Batch) -> None:
    rewards_NK, group_ids_N = grouped(batch)
    theirs_N = trl_advantages(rewards_NK, 3, list(batch.weights.values()), "normalize_then_sum")
    ours = compute_advantages(rewards_NK, group_ids_N, config(batch, preset="trl"))
    torch.testing.assert_close(ours.advantages_N, theirs_N, atol=1e-7, rtol=1e-7)
    assert ours.keep_N.tolist() == (~rewards_NK.isnan().all(dim=1)).tolist()


@settings(max_examples=30, deadline=None)
@given(batches(group_sizes=(4, 4)))
def test_trl_preset_of_grpo_is_trls_sum_then_normalize(batch: Batch) -> None:
    rewards_NK, group_ids_N = grouped(batch)
    theirs_N = trl_advantages(rewards_NK, 4, list(batch.weights.values()), "sum_then_normalize")
    ours = compute_advantages(rewards_NK, group_ids_N, config(batch, estimator="grpo", preset="trl"))
    torch.testing.assert_close(ours.advantages_N, theirs_N, atol=1e-7, rtol=1e-7)


@settings(max_examples=60, deadline=None)
@given(batches(missing=True, group_sizes=(3, 3)))
def test_swift_preset_is_ms_swift_with_missing_scores(batch: Batch) -> None:
    """Where every rollout has a score: one without any stays in ms-swift's batch as a 0. A batch of equal scores
    leaves rounding over, which ms-swift divides by its epsilon; ours is 0."""
    rewards_NK, group_ids_N = grouped(batch)
    rewards_NK[rewards_NK.isnan().all(dim=1)] = 0.4
    theirs_N = swift_advantages(rewards_NK, 3, list(batch.weights.values()))
    ours_N = compute_advantages(rewards_NK, group_ids_N, config(batch, preset="swift")).advantages_N
    assume(bool(ours_N.any()))
    torch.testing.assert_close(ours_N, theirs_N, atol=1e-6, rtol=1e-6)


def grouped(batch: Batch) -> tuple[Tensor, Tensor]:
    """Rows sorted by group, as TRL's ``view`` needs them."""
    order_N = batch.group_ids_N.argsort(stable=True)
    return batch.rewards_NK[order_N], batch.group_ids_N[order_N]


@settings(max_examples=60, deadline=None)
@given(batches(missing=True))
def test_nemo_preset_is_its_leave_one_out_formula(batch: Batch) -> None:
    rewards, ids = batch.rewards_NK.nan_to_num(nan=0.0).tolist(), batch.group_ids_N.tolist()
    summed = []
    for j, row in enumerate(rewards):
        others = [rewards[i] for i in range(len(rewards)) if ids[i] == ids[j] and i != j]
        parts = [nemo(row[k], [other[k] for other in others]) for k in range(len(batch.names))]
        summed.append(sum(w * part for w, part in zip(batch.weights.values(), parts, strict=True)))
    spread = statistics.stdev(summed) if len(summed) > 1 else 0.0
    expected = [(a - statistics.fmean(summed)) / (spread if spread > 1e-9 else 1.0) for a in summed]
    ours = compute_advantages(batch.rewards_NK, batch.group_ids_N, config(batch, preset="nemo"))
    torch.testing.assert_close(ours.advantages_N, torch.tensor(expected).double(), atol=1e-6, rtol=1e-6)


def nemo(own: float, others: list[float]) -> float:
    if not others:
        return 0.0
    std = statistics.stdev(others) if len(others) > 1 else 0.0
    return (own - statistics.fmean(others)) / (std + 1e-6 if std > 1e-9 else 1.0)


@settings(max_examples=30, deadline=None)
@given(batches())
def test_verl_is_proportional_to_the_paper_at_equal_lengths(batch: Batch) -> None:
    """Given groups of two and more: at one, verl keeps the raw score."""
    _, counts_G = batch.group_ids_N.unique(return_counts=True)
    assume(bool((counts_G > 1).all()))
    lengths_N = torch.full_like(batch.lengths_N, 5)
    paper_N = compute_advantages(batch.rewards_NK, batch.group_ids_N, config(batch)).advantages_N
    verl = compute_advantages(batch.rewards_NK, batch.group_ids_N, config(batch, preset="verl"), lengths_N=lengths_N)
    verl_N = verl.advantages_N
    ratio = float((verl_N * paper_N).sum() / paper_N.square().sum().clamp(min=1e-12))
    torch.testing.assert_close(verl_N, ratio * paper_N, atol=1e-4, rtol=1e-4)
