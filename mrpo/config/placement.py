"""What of a run must lie on one node each, and whether a cluster's nodes have room for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from mrpo.config.cluster import NodeGroup
from mrpo.config.run import RunConfig

RANK_CPUS, ENGINE_CPUS = 3, 2
"""CPUs that verl has Ray reserve for each device of the trainer and of an engine of its own."""

Groups = Mapping[str, NodeGroup]
"""Nodes by role: ``trainer``, and where they have nodes of their own ``rollout`` and ``reward``."""


class Piece(NamedTuple):
    """Devices and CPUs that must be on one node.

    ``field`` of the configuration decides how many such pieces there are. ``home`` is the index of its node where there
    is no limit to a node.
    """

    what: str
    role: str
    field: str
    devices: int
    cpus: int
    home: int


@dataclass
class Node:
    """What one node holds."""

    group: str = "trainer"
    devices: int = 0
    cpus: int = 0
    """CPUs that Ray reserves, whatever the processes really use."""
    holds: Counter[str] = field(default_factory=Counter)

    def take(self, what: str, devices: int = 0, cpus: int = 0) -> None:
        self.devices, self.cpus = self.devices + devices, self.cpus + cpus
        self.holds[what] += 1


def pieces(config: RunConfig) -> list[Piece]:
    """What Ray must put on one node each, in the order in which a run asks for it. Colocated engines have no devices
    of their own."""
    trainer, rollout = config.trainer, config.rollout
    size, ranks = rollout.tensor_model_parallel_size, trainer.n_gpus_per_node
    found = [
        Piece(f"engine of reward {name}", "reward", f"rewards.{name}.model.replicas", n, ENGINE_CPUS * n, i)
        for name, reward in config.rewards.items()
        if (model := reward.model) is not None
        for i in range(model.replicas)
        for n in [model.tensor_model_parallel_size]
    ]
    for i in range(trainer.nnodes):
        name = f"trainer ranks {i * ranks}-{(i + 1) * ranks - 1}" if ranks > 1 else f"trainer rank {i}"
        found.append(Piece(name, "trainer", "trainer.n_gpus_per_node", ranks, RANK_CPUS * ranks, i))
    if rollout.placement == "separate":
        for i in range(rollout.replicas * rollout.nnodes):
            home = i // rollout.replicas
            found.append(Piece("rollout engine", "rollout", "rollout.replicas", size, ENGINE_CPUS * size, home))
    return found


def group_of(role: str, groups: Container[str]) -> str:
    """The nodes that a role is on: its own, else the trainer's."""
    return role if role in groups else "trainer"


def by_group(config: RunConfig, groups: Groups) -> dict[str, list[Piece]]:
    """Pieces by the group of nodes that holds them."""
    held: dict[str, list[Piece]] = {role: [] for role in groups}
    for piece in pieces(config):
        held[group_of(piece.role, groups)].append(piece)
    return held


def place(parts: Iterable[Piece], groups: Groups, spread: bool = False) -> tuple[list[Node], list[Piece]]:
    """Nodes that hold the pieces, and the pieces that no node has room for.

    Packed: the biggest first, each on the fullest node with room. With ``spread``: as they come, on the emptiest; Ray
    may do that, so a plan that only packing makes fit is at risk.
    """
    nodes, left = [Node(role) for role, group in groups.items() for _ in range(group.nodes)], []
    for part in parts if spread else sorted(parts, key=lambda part: -part.devices):
        fitting = [
            node for node in nodes if node.group == group_of(part.role, groups) and _has_room(node, groups, part)
        ]
        if fitting:
            chosen = (min if spread else max)(fitting, key=lambda node: node.devices)
            chosen.take(part.what, part.devices, part.cpus)
        else:
            left.append(part)
    return nodes, left


def _has_room(node: Node, groups: Groups, part: Piece) -> bool:
    group = groups[node.group]
    enough = group.cpus_per_node is None or node.cpus + part.cpus <= group.cpus_per_node
    return enough and node.devices + part.devices <= group.gpus_per_node


def misfits(config: RunConfig, groups: Groups, gpu: bool) -> list[str]:
    """Why the nodes can't hold the run, by the field to change; nothing if they can. Without ``gpu``, on CPU, there is
    no limit to a node."""
    if "rollout" in groups and config.rollout.placement == "colocated":
        return ["cluster.rollout: given nodes, but rollout.placement is colocated. Allowed: no such nodes."]
    found = []
    left = place(pieces(config), groups)[1] if gpu else []
    for part, count in Counter(part._replace(home=0) for part in left).items():
        role = group_of(part.role, groups)
        group = groups[role]
        has = f"cluster.{role} has {group.nodes} x {group.gpus_per_node} GPUs"
        has += f" and {group.cpus_per_node} CPUs" if group.cpus_per_node is not None else ""
        size = part.field.replace("replicas", "tensor_model_parallel_size")
        if part.devices > group.gpus_per_node:
            found.append(f"{size}: given {part.devices}, allowed: {group.gpus_per_node} or fewer; {has}.")
            continue
        needs = f"{part.what}: {part.devices} GPUs and {part.cpus} CPUs on one node"
        found.append(f"{part.field}: no room for {count} x ({needs}); {has}.")
    return found
