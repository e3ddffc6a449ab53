"""Put each part of a run on the nodes that are there for it: who loses a rollout or reward node loses nothing else.

``mrpo launch`` starts each Ray node with a custom resource for what it is for. A pool of verl's asks for the one of its
role, by its name, wherever the cluster has any node with it; elsewhere Ray places it as it likes. Agent workers and
TransferQueue's storage, without which a run can't go on, are with the trainer ranks.
"""

from __future__ import annotations

from typing import Any

import ray
from omegaconf import DictConfig, open_dict
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from verl.single_controller.ray.base import RayResourcePool

TRAINER_NODE, ROLLOUT_NODE, REWARD_NODE = "mrpo_trainer", "mrpo_rollout", "mrpo_reward"
ROLES = (("rollout_pool_reward", REWARD_NODE), ("rollout_pool", ROLLOUT_NODE), ("global_pool", TRAINER_NODE))
"""How the names of verl's pools begin, the longer ones first, and the resource that each asks for."""


def role_of(pool: str) -> str | None:
    """The resource for the pool of this name; None if its place doesn't matter."""
    return next((resource for prefix, resource in ROLES if pool.startswith(prefix)), None)


def nodes_for(resource: str) -> list[str]:
    """Ids of the nodes with this resource; of all that have CPUs if none has it."""
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) > 0]
    return [node["NodeID"] for node in nodes if resource in node["Resources"]] or [node["NodeID"] for node in nodes]


def in_turn(resource: str, actors: int) -> list[NodeAffinitySchedulingStrategy]:
    """Where each of so many actors goes: over the nodes for ``resource`` in turn."""
    nodes = nodes_for(resource)
    return [NodeAffinitySchedulingStrategy(nodes[i % len(nodes)], soft=True) for i in range(actors)]


def store_with_trainers(config: DictConfig) -> None:
    """Have TransferQueue keep its rows on the trainer's nodes, if there are any."""
    if TRAINER_NODE in ray.cluster_resources():
        with open_dict(config):
            config.transfer_queue.backend.SimpleStorage.required_node_resource = TRAINER_NODE


def apply() -> None:
    """Have every pool made from now on in this process ask for its role."""
    place = RayResourcePool.get_placement_groups

    def place_by_role(self: RayResourcePool, *args: Any, **kwargs: Any) -> Any:
        role = role_of(self.name_prefix)
        if self.pgs is None and self.accelerator_type is None and role in ray.cluster_resources():
            self.accelerator_type = role
        return place(self, *args, **kwargs)

    RayResourcePool.get_placement_groups = place_by_role  # type: ignore[method-assign]
