"""Do something once on each node of the Ray cluster but this one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy


def on_other_nodes(function: Callable[..., None], *arguments: Any, seconds: float) -> list[str]:
    """Call ``function`` there, for so many seconds at most. Returns what went wrong, by node."""
    here = ray.get_runtime_context().get_node_id()
    others = {node["NodeID"]: node["NodeName"] for node in ray.nodes() if node["Alive"] and node["NodeID"] != here}
    task = ray.remote(num_cpus=0, max_retries=0)(function)
    calls = {
        task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(*arguments): name
        for node, name in others.items()
    }
    if not calls:
        return []
    done, late = ray.wait(list(calls), num_returns=len(calls), timeout=seconds)
    troubles = [f"{calls[call]}: no answer within {seconds:g} s" for call in late]
    for call in done:
        try:
            ray.get(call)
        except Exception as error:
            troubles.append(f"{calls[call]}: {error}")
    return troubles
