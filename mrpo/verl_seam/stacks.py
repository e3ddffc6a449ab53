"""Where a run's actors are, what each of its processes is doing, and what went wrong in them: for a run that stands
still."""

from __future__ import annotations

import faulthandler
import os
import signal
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import ray

from mrpo.driver.other_nodes import on_other_nodes
from mrpo.driver.processes import ray_logs
from mrpo.record.last_errors import last_errors
from mrpo.record.logs import collect_actor_logs


def located(actors: list[ray.actor.ActorHandle]) -> str:
    """Process and node of each actor, for a person who goes looking."""
    table = ray._private.state.actors()
    known = [table[actor._actor_id.hex()] for actor in actors if actor._actor_id.hex() in table]
    return ", ".join(f"process {actor['Pid']} on {actor['Address']['IPAddress']}" for actor in known)


def without_end(prompts: Collection[str], engines: list[Any], reward_workers: list[Any]) -> str:
    """Which prompts are waited for, a few of them by name, and who may know about them."""
    return (
        f"{len(prompts)} prompts without an end: {', '.join(sorted(prompts)[:4])}; "
        f"engines: {located(engines)}; reward workers: {located(reward_workers)}"
    )


def dump_stacks() -> None:
    """Have every process that listens (``verl_seam.plugin``), on all nodes, write its threads' stacks to its log."""
    pids: dict[str, list[int]] = {}
    for actor in ray._private.state.actors().values():
        if actor["State"] == "ALIVE":
            pids.setdefault(actor["Address"]["NodeID"], []).append(actor["Pid"])
    _ask_for_stacks(pids)
    faulthandler.dump_traceback(all_threads=True)
    on_other_nodes(_ask_for_stacks, pids, seconds=20)
    time.sleep(2)  # they write it by themselves


def errors_in_logs(logs: Path) -> list[str]:
    """Bring the logs of this node's processes into ``logs``, as they are now, and say which errors they end with."""
    try:
        return last_errors(collect_actor_logs(ray_logs(), logs, ray.get_runtime_context().get_job_id()))
    except OSError as error:
        return [f"nobody knows, as logs could not be read: {type(error).__name__}: {error}"]


def _ask_for_stacks(pids: dict[str, list[int]]) -> None:
    """``pids`` by node; those of this one are asked."""
    for pid in pids.get(ray.get_runtime_context().get_node_id(), []):
        if _listens(pid):
            os.kill(pid, signal.SIGUSR2)


def _listens(pid: int) -> bool:
    """Whether the process handles SIGUSR2; one that doesn't would die of it."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return False
    caught = next(int(line.split()[1], 16) for line in lines if line.startswith("SigCgt:"))
    return bool(caught >> (signal.SIGUSR2 - 1) & 1)
