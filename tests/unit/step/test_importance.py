"""Weights and metrics are those that verl's function makes of the padded batch, however rows are dealt out to ranks."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from verl.trainer.ppo.rollout_corr_helper import compute_rollout_correction_weights

from mrpo.step.importance import WeightSums, token_weights, weight_metrics

pytestmark = pytest.mark.unit

LENGTHS = st.lists(st.integers(1, 7), min_size=1, max_size=6)


@given(lengths=LENGTHS, seed=st.integers(0, 999), threshold=st.sampled_from([2.0, "1.3", "0.5_1.5"]))
@settings(deadline=None, max_examples=40)
def test_they_are_verls(lengths: list[int], seed: int, threshold: str | float) -> None:
    random = torch.Generator().manual_seed(seed)
    rows = [torch.randn(length, generator=random) for length in lengths]
    masks = [torch.rand(length, generator=random) < 0.8 for length in lengths]
    masks[0][0] = True  # verl refuses a batch without a token in the loss
    padded = [torch.nn.utils.rnn.pad_sequence(of, batch_first=True) for of in (rows, masks)]
    upper = float(str(threshold).rpartition("_")[2])
    assume("_" not in str(threshold) or bool((rows[0][0].exp() >= 0.5) & (rows[0][0].exp() <= upper)))  # else verl: 1/0
    expected, metrics = compute_rollout_correction_weights(padded[0], padded[1].float(), "token", threshold)
    left, sums = [], []
    for some in (slice(0, 2), slice(2, None)):  # two ranks
        if rows[some]:
            values, mask = torch.cat(rows[some]), torch.cat(masks[some])
            of_rank = token_weights(values, mask, torch.tensor(lengths[some]), threshold)
            left.append(of_rank[0])
            sums.append(torch.stack(of_rank[1], dim=1))
    inside = [torch.arange(max(lengths)) < length for length in lengths]
    assert torch.equal(torch.cat(left), expected[torch.stack(inside)])
    tokens = torch.tensor([float(mask.sum()) for mask in masks])
    found = weight_metrics(WeightSums.of(torch.cat(sums)), tokens, threshold)
    assert found.keys() == metrics.keys()
    for name, value in metrics.items():
        assert math.isclose(found[name], value, rel_tol=1e-4, abs_tol=1e-5) or found[name] == value, name


def test_a_batch_without_a_token_in_the_loss_has_no_metrics() -> None:
    weights, sums = token_weights(torch.zeros(2), torch.zeros(2, dtype=torch.bool), torch.tensor([2]), 2.0)
    assert weights.tolist() == [0, 0]
    assert weight_metrics(sums, torch.zeros(1), 2.0) == {}


@pytest.mark.parametrize(("log_ratio", "share"), [([0.0] * 3, 1.0), ([9.0, 0.0, 0.0], 2 / 3), ([9.0] * 3, 0.0)])
def test_the_effective_sample_is_no_larger_than_the_sample(log_ratio: list[float], share: float) -> None:
    """Nothing is left of it where all weights are 0."""
    _, sums = token_weights(torch.tensor(log_ratio), torch.ones(3, dtype=torch.bool), torch.tensor([3]), "0.5_2")
    found = weight_metrics(sums, torch.tensor([3.0]), "0.5_2")["rollout_is_eff_sample_size"]
    assert found <= 1
    assert found == pytest.approx(share)
