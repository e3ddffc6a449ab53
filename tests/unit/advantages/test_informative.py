"""Which groups the estimator in use learns from. Shapes: N rollouts, G prompt groups."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings

from mrpo.advantages import compute_advantages, informative_groups
from mrpo.config.estimators import ESTIMATOR_CONFIGS

from .strategies import Batch, batches

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("estimator", ["grpo", "gdpo", "dvao", "gd2po", "papo", "rvpo", "dara", "sa_mrpo", "corr_grpo"])
@settings(max_examples=20, deadline=None)
@given(batch=batches(missing=True))
def test_a_group_without_an_advantage_in_the_batch_is_the_one_that_is_not_informative(
    estimator: str, batch: Batch
) -> None:
    """Where the batch decides what rewards weigh, groups that it gives an advantage are among the informative."""
    config = {"estimator": estimator, "names": batch.names, "weights": batch.weights, "batch_norm": "none"}
    informative_G = informative_groups(batch.rewards_NK, batch.group_ids_N, config)
    advantages_N = compute_advantages(batch.rewards_NK, batch.group_ids_N, config).advantages_N
    ids_G = batch.group_ids_N.unique()
    given_G = torch.stack([(advantages_N[batch.group_ids_N == group].abs() > 1e-9).any() for group in ids_G])
    if ESTIMATOR_CONFIGS[estimator].weighs_by_batch:
        assert not (given_G & ~informative_G).any()
    else:
        assert informative_G.tolist() == given_G.tolist()


def test_a_rollout_that_is_not_trained_on_counts_in_statistics_alone() -> None:
    rewards_NK, ids_N = torch.tensor([[1.0], [0.5], [0.0]]), torch.zeros(3, dtype=torch.int64)
    config = {"estimator": "grpo", "names": ["a"]}
    assert informative_groups(rewards_NK, ids_N, config, torch.tensor([True, False, False])).tolist() == [True]
    assert informative_groups(rewards_NK, ids_N, config, torch.tensor([False, True, False])).tolist() == [False]
