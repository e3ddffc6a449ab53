"""Do something once on each node of the Ray cluster but this one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy


def on_other_nodes(function: Callable[..., None], *arguments: Any, seconds: float) -> None:
    """Call ``function`` there, for so many seconds at most; what fails or takes longer is left alone."""
    here = ray.get_runtime_context().get_node_id()
    others = [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["NodeID"] != here]
    task = ray.remote(num_cpus=0, max_retries=0)(function)
    calls = [
        task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(*arguments)
        for node in others
    ]
    if calls:
        ray.wait(calls, num_returns=len(calls), timeout=seconds)
