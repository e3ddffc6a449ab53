"""Kill whole nodes of a Ray cluster under a run that trains on them.

``python tests/faults/lost_nodes.py [rollout] [trainer] --out FOLDER`` starts a Ray cluster of six nodes on one machine:
a head that only holds the controller, two nodes for trainer ranks, two for engines, one for rewards; one of each two is
a spare. It trains the quickstart on them, by the very entrypoint of the RayJob that ``mrpo launch`` writes. In the
middle of a step it kills the raylet of the node with the engine (``rollout``: the engine is started again on the spare
node, no step and no attempt is lost), and later that of the node with the ranks (``trainer``: the next attempt, on the
spare node, goes on from the last checkpoint). Exits with 1 if anything is lost, or was on a node of another role.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import yaml
from ray.cluster_utils import Cluster
from ray.util.state import list_actors

from mrpo.config.cluster import KubernetesCluster
from mrpo.launch.job import make_job
from mrpo.launch.kubernetes import render_kubernetes
from mrpo.record.jsonl import Record
from mrpo.record.phase import Phase
from mrpo.record.run_folder import RunFolder

STEPS = 5
KILLS = {"rollout": ("rollout", 2), "trainer": ("update_actor", 4)}
"""The phase and step in which a node of the role is killed."""
HOME = {
    "WorkerDict": "trainer",
    "AgentLoopWorkerTQ": "trainer",
    "SimpleStorageUnit": "trainer",
    "vLLMHttpServer": "rollout",
    "RewardLoopWorker": "reward",
}
"""Roles of the nodes that actors of these classes must be on."""


def start_cluster() -> tuple[Cluster, dict[str, list[Any]]]:
    """The cluster, and its nodes by role."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 8, "num_gpus": 0})
    sizes = {"trainer": (2, 2), "rollout": (2, 1), "reward": (1, 0)}
    nodes = {
        role: [cluster.add_node(num_cpus=20, num_gpus=gpus, resources={f"mrpo_{role}": 1}) for _ in range(number)]
        for role, (number, gpus) in sizes.items()
    }
    cluster.wait_for_nodes()
    return cluster, nodes


def start_run(address: str, folder: RunFolder) -> subprocess.Popen[bytes]:
    volume, given = folder.path.parent, [f"trainer.total_training_steps={STEPS}", "checkpoint.every=1"]
    job = make_job(["recipe=quickstart", f"run_dir={folder.path}", *given], volume)
    kubernetes = KubernetesCluster(image="mrpo:0", volume="any", mount=str(volume))
    _, ray_job = yaml.safe_load_all("".join(render_kubernetes(job, kubernetes).values()))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with open(folder.path.with_suffix(".out"), "ab") as out:
        return subprocess.Popen(
            ["bash", "-c", ray_job["spec"]["entrypoint"]],
            stdout=out,
            stderr=out,
            env={**os.environ, "RAY_ADDRESS": address, "PATH": path},
        )


def wait_for(folder: RunFolder, phase: str, step: int, run: subprocess.Popen[bytes]) -> None:
    while not any((e["phase"], e["step"]) == (phase, step) for e in events(folder)):
        if run.poll() is not None:
            raise SystemExit(f"the run ended with {run.returncode} before {phase} of step {step}; see {folder.path}")
        time.sleep(0.02)


def events(folder: RunFolder) -> list[Record]:
    return folder.events() if folder.events_file.exists() else []


def actors(address: str) -> dict[str, set[str]]:
    """Ids of the nodes that live actors are on, by their class."""
    found: dict[str, set[str]] = {}
    for actor in list_actors(address, filters=[("state", "=", "ALIVE")], limit=1000):
        found.setdefault(str(actor.class_name).rpartition(".")[2], set()).add(str(actor.node_id))
    return found


def check_homes(address: str, nodes: dict[str, list[Any]]) -> dict[str, set[str]]:
    placed = actors(address)
    for name, role in HOME.items():
        allowed = {node.node_id for node in nodes[role]}
        if not placed.get(name) or not placed[name] <= allowed:
            raise SystemExit(f"{name} is on {placed.get(name)}, not on the {role} nodes {allowed}; there are {placed}")
    return placed


def check_run(folder: RunFolder, roles: list[str]) -> None:
    happened = Counter(event["phase"] for event in folder.events())
    expected = {
        "engine died": "rollout" in roles,
        "engine replaced": "rollout" in roles,
        Phase.FAILED: "trainer" in roles,
        "attempt": 1 + ("trainer" in roles),
    }
    if found := {phase: happened[phase] for phase, times in expected.items() if happened[phase] != times}:
        raise SystemExit(f"{folder.path}: expected {expected}, found {found}")
    if not list(folder.logs.glob("*/RewardLoopWorker-*")):
        raise SystemExit(f"{folder.logs} has no logs of the nodes apart from the head's")
    steps = [record["step"] for record in folder.metrics()]
    if steps != list(range(1, STEPS + 1)):
        raise SystemExit(f"{folder.path}: steps {steps}, each of {STEPS} was to be there once")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("roles", nargs="*", choices=[*KILLS, []], default=[])
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    roles = options.roles or list(KILLS)
    folder = RunFolder(options.out.resolve() / "run")
    folder.path.parent.mkdir(parents=True, exist_ok=True)
    cluster, nodes = start_cluster()
    run = start_run(cluster.address, folder)
    try:
        for role in roles:
            wait_for(folder, *KILLS[role], run)
            placed = check_homes(cluster.address, nodes)
            busy = placed["vLLMHttpServer" if role == "rollout" else "WorkerDict"]
            [victim] = [node for node in nodes[role] if node.node_id in busy]
            cluster.remove_node(victim, allow_graceful=False)
            print(f"killed a {role} node in {' of step '.join(map(str, KILLS[role]))}", flush=True)
            nodes[role].remove(victim)
        if code := run.wait(600):
            raise SystemExit(f"the run ended with {code}: {folder.path.with_suffix('.out')}")
    finally:
        run.kill()
        cluster.shutdown()
    check_run(folder, roles)
    for event in folder.events():
        if event["phase"] in (Phase.ENGINE_DIED, Phase.ENGINE_REPLACED, Phase.FAILED, Phase.RESUME):
            print(f"{event['phase']}: {event['detail']}")
    print(f"{STEPS} steps, each once, with {len(roles)} nodes lost")


if __name__ == "__main__":
    main()
