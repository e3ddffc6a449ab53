"""Sums of rows give verl's metrics of padded arrays."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from verl.protocol import DataProto
from verl.trainer.ppo.core_algos import agg_loss
from verl.trainer.ppo.rollout_corr_helper import compute_offpolicy_metrics
from verl.utils.debug.metrics import calculate_debug_metrics

from mrpo.step.policy_sums import PolicySums, entropy, off_policy, policy_sums, probs_diff

pytestmark = pytest.mark.unit

LENGTHS = [5, 1, 9, 0, 3, 7]
GENERATOR = torch.Generator().manual_seed(0)
MASKS = [torch.rand(length, generator=GENERATOR) < 0.7 for length in LENGTHS]
TRAINER, ENGINE, ENTROPY = ([-3 * torch.rand(length, generator=GENERATOR) for length in LENGTHS] for _ in range(3))


def padded(rows: list[torch.Tensor]) -> torch.Tensor:
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)


def sums_of(some: slice) -> torch.Tensor:
    trainer, engine, entropies, mask = (torch.cat(of[some]) for of in (TRAINER, ENGINE, ENTROPY, MASKS))
    return torch.stack(policy_sums(trainer, engine, entropies, mask, torch.tensor(LENGTHS[some])), dim=1)


@pytest.fixture(scope="module")
def sums() -> PolicySums:
    """As two ranks leave them."""
    return PolicySums.of(torch.cat([sums_of(slice(0, 2)), sums_of(slice(2, 6))]))


def test_the_off_policy_metrics_are_verls(sums: PolicySums) -> None:
    verl = compute_offpolicy_metrics(padded(TRAINER), padded(ENGINE), padded(MASKS))
    assert off_policy(sums) == pytest.approx(verl, rel=1e-5, abs=1e-6)


def test_the_difference_of_probabilities_is_verls(sums: PolicySums) -> None:
    arrays: dict[str, Any] = {"rollout_log_probs": padded(ENGINE), "old_log_probs": padded(TRAINER)}
    arrays |= {"response_mask": padded(MASKS), "responses": padded(TRAINER)}
    verl = calculate_debug_metrics(DataProto.from_dict(arrays))
    assert probs_diff(sums) == pytest.approx(verl, rel=1e-5)


@pytest.mark.parametrize(
    "mode", ["token-mean", "token-sum", "seq-mean-token-sum", "seq-mean-token-sum-norm", "seq-mean-token-mean"]
)
def test_the_entropy_is_aggregated_as_verl_aggregates_a_loss(sums: PolicySums, mode: str) -> None:
    verl = agg_loss(padded(ENTROPY), padded(MASKS).float(), mode)
    assert entropy(sums, mode, max(LENGTHS)) == pytest.approx(float(verl), rel=1e-5)


def test_a_mode_that_verl_lacks_is_an_error(sums: PolicySums) -> None:
    with pytest.raises(ValueError, match="'seq-mean'"):
        entropy(sums, "seq-mean", 1)


def test_small_differences_are_not_lost_in_rounding() -> None:
    trainer = -torch.rand(10_000, generator=GENERATOR)
    engine = trainer + 1e-6 * torch.rand(10_000, generator=GENERATOR)
    found = probs_diff(policy_sums(trainer, engine, trainer, torch.ones(10_000).bool(), torch.tensor([10_000])))
    difference = (trainer.exp() - engine.exp()).abs()
    assert found["training/rollout_probs_diff_mean"] == pytest.approx(float(difference.mean()), rel=1e-5)
    assert found["training/rollout_probs_diff_std"] == pytest.approx(float(difference.std()), rel=1e-4)
    assert found["training/rollout_actor_probs_pearson_corr"] == pytest.approx(1.0)


def test_an_engine_that_is_constant_correlates_with_nothing() -> None:
    trainer, engine = -torch.rand(5000, generator=GENERATOR), torch.full((5000,), -1.1)
    found = probs_diff(policy_sums(trainer, engine, trainer, torch.ones(5000).bool(), torch.tensor([5000])))
    assert math.isnan(found["training/rollout_actor_probs_pearson_corr"])


def test_without_the_engines_log_probabilities_there_is_only_entropy() -> None:
    sums = policy_sums(TRAINER[0], None, ENTROPY[0], MASKS[0], torch.tensor([5]))
    assert off_policy(sums) == probs_diff(sums) == {}
    assert sums.entropy.tolist() == pytest.approx([float(ENTROPY[0][MASKS[0]].sum())])


def test_nothing_in_the_loss_is_no_metric() -> None:
    nothing = torch.zeros(2)
    sums = policy_sums(nothing, nothing, nothing, nothing.bool(), torch.tensor([2]))
    assert off_policy(sums) == {}
    assert probs_diff(sums)["training/rollout_probs_diff_valid"] == 0


def test_what_is_outside_the_loss_may_be_anything() -> None:
    inside = torch.tensor([True, False])
    odd = torch.tensor([-0.5, float("nan")])
    assert not any(of.isnan().any() for of in policy_sums(odd, odd, odd, inside, torch.tensor([2])))
