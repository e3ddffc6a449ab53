"""DVAO's propositions and its noise correction. Shapes: N rollouts, K rewards, G groups."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from mrpo.advantages import AdvantageResult, compute_advantages, noise_variance_from_repeats

from .strategies import Batch, batches

pytestmark = pytest.mark.unit
UNIT = (0.0, 1.0)


def run(batch: Batch, estimator: str = "dvao", **options: Any) -> AdvantageResult:
    config = {"estimator": estimator, "names": batch.names, "weights": batch.weights, **options}
    if estimator != "dvao":
        config["ddof"] = 0  # as DVAO's own formula has it
    config["ranges"] = options.get("ranges", dict.fromkeys(batch.names, UNIT))
    return compute_advantages(batch.rewards_NK, batch.group_ids_N, config)


def mean_square(batch: Batch, values_N: Tensor) -> Tensor:
    return torch.stack([values_N[batch.group_ids_N == group].square().mean() for group in batch.group_ids_N.unique()])


@settings(max_examples=50, deadline=None)
@given(batches(rewards=(2, 4), group_sizes=(2, 6)))
def test_p1_summed_rewards_have_the_larger_mean_square(batch: Batch) -> None:
    """Where the sum varies, its advantage has mean square 1, and that of combined advantages is at most that."""
    total = sum(batch.weights.values())
    batch = Batch(
        batch.rewards_NK,
        batch.group_ids_N,
        batch.lengths_N,
        batch.names,
        {n: w / total for n, w in batch.weights.items()},
    )
    summed_G = mean_square(batch, run(batch, "grpo").advantages_N)
    combined_G = mean_square(batch, run(batch, "advantage_combination").advantages_N)
    varies_G = summed_G > 0
    assert torch.allclose(summed_G[varies_G], torch.ones(1).double())
    assert bool((combined_G[varies_G] <= 1 + 1e-9).all())


@settings(max_examples=50, deadline=None)
@given(batches(rewards=(2, 4), group_sizes=(2, 6)))
def test_p2_dvao_is_grpo_scaled_by_kappa_between_0_and_1(batch: Batch) -> None:
    dvao, grpo_N = run(batch), run(batch, "grpo").advantages_N
    assert bool((dvao.advantages_N.abs() <= grpo_N.abs() + 1e-9).all())
    kappa_G = mean_square(batch, dvao.advantages_N).sqrt()
    assert bool((kappa_G <= 1 + 1e-9).all())
    _, index_N = batch.group_ids_N.unique(return_inverse=True)
    torch.testing.assert_close(dvao.advantages_N, kappa_G[index_N] * grpo_N, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("estimator", ["dvao", "advantage_combination"])
def test_p3_sensitivity_couples_objectives_in_dvao_only(estimator: str) -> None:
    """Against central differences, at a group with unequal deviations."""
    rewards_NK = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.4, 0.5], [0.1, 0.3]], dtype=torch.float64)
    weights = {"a": 0.6, "b": 0.4}
    batch = Batch(rewards_NK, torch.zeros(4).long(), torch.ones(4).long(), ("a", "b"), weights)
    std_K = rewards_NK.std(dim=0, correction=0)
    component_NK = (rewards_NK - rewards_NK.mean(dim=0)) / std_K
    weights_K = torch.tensor([0.6, 0.4], dtype=torch.float64)
    share_K = weights_K * std_K / (weights_K * std_K).sum() if estimator == "dvao" else weights_K
    advantages_N = (share_K * component_NK).sum(dim=1)
    coupling_NK = advantages_N[:, None] * component_NK if estimator == "dvao" else component_NK.square()
    predicted_NK = share_K / std_K * (1 - 1 / 4 - coupling_NK / 4)
    step = 1e-6
    for j in range(4):
        for k in range(2):
            ends = []
            for sign in (1, -1):
                moved_NK = rewards_NK.clone()
                moved_NK[j, k] += sign * step
                moved = Batch(moved_NK, batch.group_ids_N, batch.lengths_N, batch.names, weights)
                ends.append(float(run(moved, estimator).advantages_N[j]))
            measured = (ends[0] - ends[1]) / (2 * step)
            assert measured == pytest.approx(float(predicted_NK[j, k]), abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(batches(rewards=(2, 3), missing=True), st.lists(st.sampled_from([0.5, 2.0, 3.0]), min_size=3, max_size=3))
def test_scaling_rewards_is_scaling_weights(batch: Batch, factors: list[float]) -> None:
    factor_K = torch.tensor(factors[: len(batch.names)]).double()
    scaled = Batch(batch.rewards_NK * factor_K, batch.group_ids_N, batch.lengths_N, batch.names, batch.weights)
    weights = {name: w * f for (name, w), f in zip(batch.weights.items(), factors, strict=False)}
    weighted = Batch(batch.rewards_NK, batch.group_ids_N, batch.lengths_N, batch.names, weights)
    torch.testing.assert_close(run(scaled).advantages_N, run(weighted).advantages_N, atol=1e-9, rtol=1e-9)


@settings(max_examples=30, deadline=None)
@given(batches(rewards=(1, 1)))
def test_one_reward_is_grpo_and_its_halves_are_one_reward(batch: Batch) -> None:
    torch.testing.assert_close(run(batch).advantages_N, run(batch, "grpo").advantages_N, atol=1e-9, rtol=1e-9)
    halves = Batch(batch.rewards_NK.expand(-1, 2), batch.group_ids_N, batch.lengths_N, ("a", "b"), {"a": 0.5, "b": 0.5})
    torch.testing.assert_close(run(halves).advantages_N, run(batch).advantages_N, atol=1e-9, rtol=1e-9)


@settings(max_examples=30, deadline=None)
@given(batches(rewards=(1, 1), group_sizes=(2, 5)))
def test_opposite_rewards_cancel_and_kappa_is_0(batch: Batch) -> None:
    opposite_NK = torch.cat((batch.rewards_NK, 1 - batch.rewards_NK), dim=1)
    result = run(Batch(opposite_NK, batch.group_ids_N, batch.lengths_N, ("a", "b"), {}))
    assert float(result.advantages_N.abs().max()) < 1e-9
    assert result.diagnostics.get("advantage/dvao_kappa", 0) == pytest.approx(0, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(batches(rewards=(2, 3), group_sizes=(2, 5)))
def test_no_noise_declared_and_noise_0_are_the_same(batch: Batch) -> None:
    quiet = run(batch, noise_variance=dict.fromkeys(batch.names, 0.0))
    torch.testing.assert_close(quiet.advantages_N, run(batch).advantages_N)


@settings(max_examples=30, deadline=None)
@given(batches(rewards=(2, 3), group_sizes=(2, 5)))
def test_a_reward_that_is_all_noise_weighs_nothing(batch: Batch) -> None:
    assume(bool((batch.rewards_NK[:, 0] != batch.rewards_NK[0, 0]).any()))
    result = run(batch, noise_variance={"a": 9.0})
    without = Batch(batch.rewards_NK, batch.group_ids_N, batch.lengths_N, batch.names, {**batch.weights, "a": 0.0})
    torch.testing.assert_close(result.advantages_N, run(without).advantages_N)


def noisy_rewards(groups: int, size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Clean scores (N,2), two noisy scorings of them, and group ids: the second reward errs with variance .09."""
    generator = torch.Generator().manual_seed(0)
    clean_NK = torch.rand(groups * size, 2, generator=generator, dtype=torch.float64) * torch.tensor([0.8, 0.5])
    first_NK, second_NK = clean_NK.clone(), clean_NK.clone()
    for noisy_NK in (first_NK, second_NK):
        noisy_NK[:, 1] += 0.3 * torch.randn(groups * size, generator=generator, dtype=torch.float64)
    return clean_NK, first_NK, second_NK, torch.arange(groups).repeat_interleave(size)


def weight_of_noisy(rewards_NK: Tensor, ids_N: Tensor, **options: Any) -> float:
    batch = Batch(rewards_NK, ids_N, torch.ones(len(ids_N)).long(), ("sure", "noisy"), {})
    return run(batch, **options).diagnostics["reward/noisy/effective_weight"]


def test_noise_correction_recovers_the_clean_weights_from_responses_scored_twice() -> None:
    clean_NK, first_NK, second_NK, ids_N = noisy_rewards(groups=2000, size=8)
    variance_K = noise_variance_from_repeats(first_NK, second_NK)
    assert variance_K.tolist() == pytest.approx([0, 0.09], rel=0.03)
    clean = weight_of_noisy(clean_NK, ids_N)
    fooled = weight_of_noisy(first_NK, ids_N)
    corrected = weight_of_noisy(first_NK, ids_N, noise_variance={"noisy": float(variance_K[1])})
    assert clean == pytest.approx(0.386, abs=0.01)
    assert fooled > 0.55, "uncorrected, noise outweighs the better reward"
    assert corrected == pytest.approx(clean, abs=0.02), (
        "at eight rollouts a group and four times more noise than signal"
    )


def test_noise_variance_follows_a_reward_into_its_range() -> None:
    _, first_NK, _, ids_N = noisy_rewards(groups=40, size=32)
    corrected = weight_of_noisy(first_NK, ids_N, noise_variance={"noisy": 0.09})
    units_NK = first_NK * torch.tensor([1.0, 20.0]) - torch.tensor([0.0, 10.0])
    in_range = weight_of_noisy(
        units_NK, ids_N, noise_variance={"noisy": 36.0}, ranges={"sure": UNIT, "noisy": (-10.0, 10.0)}
    )
    assert in_range == pytest.approx(corrected)


def test_noise_needs_a_response_scored_twice() -> None:
    nan = float("nan")
    once_NK, twice_NK = torch.tensor([[1.0, nan], [0.0, nan]]), torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    with pytest.raises(ValueError, match="column 1 has no response scored twice"):
        noise_variance_from_repeats(once_NK, twice_NK)
    with pytest.raises(ValueError, match="second_NK"):
        noise_variance_from_repeats(once_NK, twice_NK[:1])
    assert noise_variance_from_repeats(once_NK[:, :1], twice_NK[:, :1]).tolist() == [0.25]
