"""Which prompt groups teach: those that the estimator in use gives an advantage. Shapes: N rollouts, G prompt groups.

Zero variance of the total is not the same: rewards that each vary may cancel in the sum, and conditions, missing scores
and weights decide what varies at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mrpo.advantages.batch import RewardBatch
from mrpo.advantages.estimators import ESTIMATORS
from mrpo.config.advantage import AdvantageConfig, as_config

NEGLIGIBLE = 1e-9
"""An advantage below this is rounding."""


def informative_groups(
    rewards_NK: Tensor,
    group_ids_N: Tensor,
    config: AdvantageConfig | Mapping[str, Any],
    trained_N: Tensor | None = None,
) -> Tensor:
    """True (G,) for groups of which a rollout gets an advantage before batch norm, in the order of their ids.

    An estimator that weighs rewards by the whole batch gives a group an advantage if any reward of it varies: what
    cancels in one batch doesn't in another. A batch norm's shift of groups that have none is not counted.

    Args:
        rewards_NK: as for ``compute_advantages``.
        group_ids_N: as there.
        config: as there.
        trained_N: False: the rollout counts in the statistics alone. By default all are trained on.

    >>> rewards_NK = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    >>> settings = {"estimator": "gdpo", "names": ["correct", "format"]}
    >>> informative_groups(rewards_NK, torch.tensor([0, 0, 1, 1]), settings)  # in the first the rewards cancel
    tensor([False,  True])
    """
    config = as_config(config).with_options(batch_norm="none")
    batch = RewardBatch.prepare(rewards_NK, group_ids_N, config, None)
    if not len(batch.groups):
        return torch.zeros(0, dtype=torch.bool)
    if config.algorithm.weighs_by_batch:
        size_N = batch.component_advantages_NK.abs().amax(dim=1)
    else:
        estimate = ESTIMATORS[config.estimator](batch)
        size_N = estimate.contributions_NK.sum(dim=1).abs()
        size_N = size_N if estimate.dropped_N is None else size_N.masked_fill(estimate.dropped_N, 0.0)
    size_N = size_N if trained_N is None else size_N.masked_fill(~trained_N, 0.0)
    return batch.groups.amax(size_N) > NEGLIGIBLE
