"""Ragged pieces give verl's metrics of padded arrays."""

from __future__ import annotations

import pytest
import torch
from verl.trainer.ppo.rollout_corr_helper import compute_offpolicy_metrics

from mrpo.step.off_policy import OffPolicy

pytestmark = pytest.mark.unit


def test_pieces_of_a_batch_give_what_verl_computes_of_all_of_it_padded() -> None:
    generator = torch.Generator().manual_seed(0)
    lengths = [5, 1, 9, 0, 3, 7]
    masks = [torch.rand(length, generator=generator) < 0.7 for length in lengths]
    trainer, engine = ([-3 * torch.rand(length, generator=generator) for length in lengths] for _ in range(2))
    sums = OffPolicy()
    for some in (slice(0, 2), slice(2, 6)):
        of_policy = torch.cat(trainer[some]), torch.cat(engine[some])
        sums.add(*of_policy, torch.cat(masks[some]), torch.tensor(lengths[some]))
    padded = [torch.nn.utils.rnn.pad_sequence(rows, batch_first=True) for rows in (trainer, engine, masks)]
    assert sums.metrics() == pytest.approx(compute_offpolicy_metrics(*padded), rel=1e-5, abs=1e-6)


def test_without_a_mask_all_tokens_count() -> None:
    arrays = torch.tensor([-1.0, -2.0, -0.5]), torch.tensor([-1.5, -2.0, -0.1])
    plain, masked = OffPolicy(), OffPolicy()
    plain.add(*arrays, None, torch.tensor([1, 2]))
    masked.add(*arrays, torch.ones(3).bool(), torch.tensor([1, 2]))
    assert plain.metrics() == masked.metrics()


def test_nothing_in_the_loss_is_no_metric() -> None:
    sums = OffPolicy()
    assert sums.metrics() == {}
    sums.add(torch.zeros(2), torch.zeros(2), torch.zeros(2).bool(), torch.tensor([2]))
    assert sums.metrics() == {}
