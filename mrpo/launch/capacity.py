"""Does the run fit the cluster: the GPUs that each part of it asks for, against the GPUs of the nodes it may use.

Ray places parts in pieces: a piece is a number of GPUs that must lie on one node (a node's trainer ranks, one engine).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from mrpo.config.cluster import NodeGroup
from mrpo.config.run import RunConfig
from mrpo.errors import ConfigError


class Part(NamedTuple):
    """A part of the run: ``pieces`` pieces of ``size`` GPUs each, asked for by the config's ``field``."""

    role: str
    field: str
    pieces: int
    size: int


def parts(config: RunConfig) -> list[Part]:
    """What the run asks for; colocated engines share the trainer ranks' GPUs."""
    trainer, rollout = config.trainer, config.rollout
    found = [Part("trainer", "trainer.n_gpus_per_node", trainer.nnodes, trainer.n_gpus_per_node)]
    if rollout.placement == "separate":
        found.append(Part("rollout", "rollout.replicas", rollout.nnodes * rollout.replicas, rollout.tensor_parallel))
    for name, reward in config.rewards.items():
        if (model := reward.model) is not None:
            found.append(Part("reward", f"rewards.{name}.model.replicas", model.replicas, model.tensor_parallel))
    return found


def by_group(config: RunConfig, groups: Mapping[str, NodeGroup]) -> dict[str, list[Part]]:
    """Parts by the group of nodes that holds them: their own, else the trainer's."""
    held: dict[str, list[Part]] = {role: [] for role in groups}
    for part in parts(config):
        held[part.role if part.role in groups else "trainer"].append(part)
    return held


def on_cpu(groups: Mapping[str, NodeGroup]) -> bool:
    return groups["trainer"].gpus_per_node == 0


def check_capacity(config: RunConfig, groups: Mapping[str, NodeGroup]) -> None:
    """Refuse a run that its nodes can't hold. On CPU a "GPU" is a slot, of which ``slots`` makes enough.

    Raises:
        ConfigError: names the field, what it asks for, and what the group of nodes has.
    """
    if "rollout" in groups and config.rollout.placement == "colocated":
        raise ConfigError("cluster.rollout: given nodes, but rollout.placement is colocated. Allowed: no such nodes.")
    if on_cpu(groups):
        return
    for role, held in by_group(config, groups).items():
        group = groups[role]
        has = f"cluster.{role} has {group.nodes} x {group.gpus_per_node} GPUs"
        free = [group.gpus_per_node] * group.nodes
        for part in sorted(held, key=lambda part: -part.size):
            if part.size > group.gpus_per_node:
                field = part.field.replace("replicas", "tensor_parallel")
                raise ConfigError(f"{field}: given {part.size}, allowed: {group.gpus_per_node} or fewer; {has}.")
            for _ in range(part.pieces):
                if max(free) < part.size:
                    asked = " + ".join(f"{other.field} {other.pieces} x {other.size}" for other in held)
                    raise ConfigError(f"{part.field}: given {asked} GPUs, allowed: what fits; {has}.")
                free[free.index(max(free))] -= part.size


def slots(held: list[Part], nodes: int) -> int:
    """Logical GPUs for each node of a CPU cluster, so that any order of placing the pieces succeeds."""
    total = sum(part.pieces * part.size for part in held)
    return math.ceil(total / nodes) + max((part.size for part in held), default=1) - 1 if total else 0
