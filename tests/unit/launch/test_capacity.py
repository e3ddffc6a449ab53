"""A run that doesn't fit its nodes is refused by the field to change; one that fits has room however it is placed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrpo.config.cluster import SlurmCluster
from mrpo.config.placement import Piece
from mrpo.errors import ConfigError
from mrpo.launch.capacity import check_capacity, slots

from .jobs import make

pytestmark = pytest.mark.unit

LARGE = ("trainer.nnodes=2", "trainer.n_gpus_per_node=4", "rollout.replicas=4", "rollout.tensor_model_parallel_size=2")


def check(overrides: tuple[str, ...], **cluster: Any) -> None:
    check_capacity(make(*overrides).config, SlurmCluster(**cluster).groups)


def test_a_run_that_fills_its_nodes_exactly_is_taken() -> None:
    check(LARGE, trainer={"nodes": 2, "gpus_per_node": 8})
    check(LARGE, trainer={"nodes": 2, "gpus_per_node": 4}, rollout={"nodes": 1, "gpus_per_node": 8})


@pytest.mark.parametrize(
    ("overrides", "trainer", "rollout", "field", "tells"),
    [
        ((), {"gpus_per_node": 2}, None, "rollout.replicas", "cluster.trainer has 1 x 2 GPUs"),
        (("trainer.n_gpus_per_node=8",), {"gpus_per_node": 4}, None, "trainer.n_gpus_per_node", "4 or fewer"),
        (LARGE, {"nodes": 2, "gpus_per_node": 7}, None, "rollout.replicas", "2 x 7 GPUs"),
        (
            LARGE,
            {"nodes": 2, "gpus_per_node": 4},
            {"gpus_per_node": 4},
            "rollout.replicas",
            "cluster.rollout has 1 x 4",
        ),
        (
            LARGE,
            {"nodes": 2, "gpus_per_node": 4},
            {"nodes": 8, "gpus_per_node": 1},
            "rollout.tensor_model_parallel_size",
            "1 or",
        ),
        (("trainer.nnodes=2",), {"gpus_per_node": 2}, {"gpus_per_node": 1}, "trainer.n_gpus_per_node", "1 x 2 GPUs"),
        (("rollout.placement=colocated",), {"gpus_per_node": 2}, {"nodes": 1}, "cluster.rollout", "colocated"),
    ],
)
def test_one_that_does_not_fit_is_refused_by_the_field_to_change(
    overrides: tuple[str, ...], trainer: dict[str, int], rollout: dict[str, int] | None, field: str, tells: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        check(overrides, trainer=trainer, rollout=rollout)
    assert str(caught.value).startswith(f"{field}: ")
    assert tells in str(caught.value)


def test_engines_of_reward_models_count_where_rewards_have_their_nodes() -> None:
    model = "rewards.judge={model: {path: some/model, replicas: 3}}"
    check((model,), trainer={"gpus_per_node": 3}, reward={"gpus_per_node": 3})
    with pytest.raises(ConfigError, match=r"rewards\.judge\.model\.replicas: .* cluster\.reward has 1 x 2 GPUs"):
        check((model,), trainer={"gpus_per_node": 3}, reward={"gpus_per_node": 2})


@given(st.lists(st.integers(1, 8), min_size=1, max_size=12), st.integers(1, 5), st.randoms())
def test_the_slots_of_a_cpu_cluster_hold_all_pieces_however_they_are_placed(
    sizes: list[int], nodes: int, random: Any
) -> None:
    free = [slots([Piece("", "trainer", "", size, 0, 0) for size in sizes], nodes)] * nodes
    random.shuffle(sizes)
    for size in sizes:
        node = random.choice([index for index, left in enumerate(free) if left >= size])
        free[node] -= size
