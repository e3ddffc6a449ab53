"""Fault injection, not training: stands in for ``mrpo train``, is interrupted by SLURM, and only counts.

It keeps the contract of ``mrpo train``: joins the cluster of RAY_ADDRESS, saves and exits with 75 on SIGUSR1, goes on
from what it saved when run again with the same run_dir, and exits with 0 when done, here after one interruption.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import ray


def main(arguments: list[str]) -> int:
    folder = Path(next(a for a in arguments if a.startswith("run_dir=")).removeprefix("run_dir="))
    folder.mkdir(parents=True, exist_ok=True)
    asked: list[int] = []
    signal.signal(signal.SIGUSR1, lambda number, _: asked.append(number))
    ray.init(log_to_driver=False)
    nodes = sorted(node["NodeName"] for node in ray.nodes() if node["Alive"])
    where = ray.get([_where.options(scheduling_strategy=_on(node["NodeID"])).remote() for node in ray.nodes()])
    state = folder / "count.json"
    attempts = json.loads(state.read_text()) if state.exists() else []
    start = attempts[-1]["to"] if attempts else 0
    roles = {name: node["NodeName"] for node in ray.nodes() for name in node["Resources"] if name.startswith("mrpo_")}
    attempt = {"from": start, "to": start, "nodes": nodes, "ran_on": sorted(where), **roles}
    print(f"attempt {len(attempts) + 1} counts from {start} on {nodes}", flush=True)
    while not asked and not (attempts and attempt["to"] >= start + 3):
        time.sleep(1)
        attempt["to"] += 1
    state.write_text(json.dumps([*attempts, attempt]))
    ray.shutdown()
    return 75 if asked else 0


@ray.remote(num_cpus=1)
def _where() -> str:
    return os.environ["SLURMD_NODENAME"]


def _on(node_id: str) -> ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy:
    return ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node_id, soft=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
