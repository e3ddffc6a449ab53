"""Random batches: unequal groups in any row order, missing and constant rewards. Shapes: N rollouts, K rewards."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor

from mrpo.registry import module_names

ESTIMATORS = module_names("mrpo.advantages.estimators")


@dataclass(frozen=True)
class Batch:
    rewards_NK: Tensor
    group_ids_N: Tensor
    lengths_N: Tensor
    names: tuple[str, ...]
    weights: dict[str, float]


@st.composite
def batches(
    draw: st.DrawFn,
    *,
    rewards: tuple[int, int] = (1, 4),
    group_sizes: tuple[int, int] = (1, 6),
    groups: tuple[int, int] = (1, 4),
    missing: bool = False,
    levels: int = 6,
) -> Batch:
    """Rewards in [0, 1] on a grid, so that ties and constant groups are common; lengths from 1."""
    sizes = draw(st.lists(st.integers(*group_sizes), min_size=groups[0], max_size=groups[1]))
    rows, columns = sum(sizes), draw(st.integers(*rewards))
    grid = st.integers(0, levels - 1).map(lambda level: level / (levels - 1))
    entry = st.one_of(grid, st.just(float("nan"))) if missing else grid
    values = draw(st.lists(st.lists(entry, min_size=columns, max_size=columns), min_size=rows, max_size=rows))
    ids = draw(st.lists(st.integers(-5, 99), min_size=len(sizes), max_size=len(sizes), unique=True))
    order = torch.tensor(draw(st.permutations(range(rows))))
    names = tuple("abcd"[:columns])
    weights = draw(st.lists(st.sampled_from([0.25, 0.5, 1.0, 2.0]), min_size=columns, max_size=columns))
    return Batch(
        torch.tensor(values, dtype=torch.float64)[order],
        torch.tensor([i for i, size in zip(ids, sizes, strict=True) for _ in range(size)])[order],
        torch.tensor(draw(st.lists(st.integers(1, 9), min_size=rows, max_size=rows))),
        names,
        dict(zip(names, weights, strict=True)),
    )
