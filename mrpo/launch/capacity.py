"""Does the run fit the cluster, and what its nodes must offer Ray: roles, and slots where there are no GPUs."""

from __future__ import annotations

import json
import math

from mrpo.config.placement import Groups, Piece, group_of, misfits
from mrpo.config.run import RunConfig
from mrpo.errors import ConfigError


def on_cpu(groups: Groups) -> bool:
    return groups["trainer"].gpus_per_node == 0


def resources(group: str, groups: Groups) -> str:
    """Which roles a group's nodes are for, as JSON of custom resources that placement can ask for."""
    roles = [role for role in ("trainer", "rollout", "reward") if group_of(role, groups) == group]
    return json.dumps({f"mrpo_{role}": 1 for role in roles})


def check_capacity(config: RunConfig, groups: Groups) -> None:
    """Refuse a run that its nodes can't hold. On CPU a "GPU" is a slot, of which ``slots`` makes enough.

    Raises:
        ConfigError: names the field, what it asks for, and what the group of nodes has.
    """
    if found := misfits(config, groups, gpu=not on_cpu(groups)):
        raise ConfigError("\n".join(found))


def slots(held: list[Piece], nodes: int) -> int:
    """Logical GPUs for each node of a CPU cluster, so that any order of placing the pieces succeeds."""
    total = sum(piece.devices for piece in held)
    return math.ceil(total / nodes) + max((piece.devices for piece in held), default=1) - 1 if total else 0
