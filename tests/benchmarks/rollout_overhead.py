"""What a rollout costs beside the engine and the ranks, in CPU seconds of every process of a run.

``python tests/benchmarks/rollout_overhead.py TREE [TREE …] [--rounds 1] [--steps 12]`` trains the quickstart in each
checkout in turn, by its own ``.venv``, and prints CPU milliseconds a rollout by role of process, the seconds of a
step's rollout phase, and both in relation to the first tree's. CPU time tells two versions apart on a machine that is
busy with other things, where seconds don't.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import psutil
from rich.console import Console

from mrpo.cli._table import table

WARM_UP = 3
"""Steps before the first count: imports, caches and compilation end in them."""
ROLLOUTS = 128
"""Of a step of the quickstart."""
ROLES = {
    "agent loops": r"AgentLoopWorker|RoundsWorker",
    "reward workers": r"RewardLoopWorker|mrpo\.rewards",
    "row store": r"SimpleStorage|TransferQueue",
    "load balancer": r"LoadBalancer",
    "engine's server": r"vLLMHttpServer|vLLMServer",
    "engine": r"VLLM::|EngineCore|fork_server",  # forked, it has the name of what it was forked from
    "ranks": r"WorkerDict|ActorWorker|TrainerWorker",
    "controller": r"Controller",
    "Ray": r"raylet|gcs_server|ray/dashboard|_private/|log_monitor",
}
BESIDE = ("engine", "ranks")
"""Roles that do a rollout's and an update's own work."""


def role_of(process: psutil.Process) -> str:
    command = " ".join(process.cmdline())
    return next((role for role, pattern in ROLES.items() if re.search(pattern, command)), f"other: {command[:60]}")


def cpu_seconds(root: psutil.Process) -> dict[int, tuple[str, float]]:
    """Role and CPU seconds of every process below ``root``, by its number."""
    found = {}
    for process in [root, *root.children(recursive=True)]:
        try:
            times = process.cpu_times()
            found[process.pid] = (role_of(process), times.user + times.system)
        except psutil.NoSuchProcess:
            continue
    return found


def measure(tree: Path, steps: int) -> tuple[dict[str, float], float]:
    """CPU milliseconds a rollout by role, and the median seconds of a step's rollout phase."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = [str(tree / ".venv/bin/mrpo"), "train", "recipe=quickstart", f"run_dir={run}", "trainer.test_freq=-1"]
        settings = [f"trainer.total_training_steps={steps}", "trainer.val_before_train=false", "trainer.logger=[]"]
        started = psutil.Popen([*command, *settings], stdout=subprocess.DEVNULL, cwd=folder)
        counts = {}
        for until in (WARM_UP, steps - 1):
            while len(records := _records(run)) < until:
                if started.poll() is not None:
                    raise SystemExit(f"{tree}: the run ended with {started.returncode} after {len(records)} steps")
                time.sleep(0.02)
            counts[until] = cpu_seconds(started)
        if started.wait() != 0:
            raise SystemExit(f"{tree}: the run ended with {started.returncode}")
        phase = statistics.median(record["time/rollout"] for record in _records(run)[WARM_UP:])
    before, after = counts.values()
    by_role: dict[str, float] = defaultdict(float)
    for number, (role, seconds) in after.items():
        by_role[role] += seconds - before.get(number, (role, 0.0))[1]
    rollouts = (steps - 1 - WARM_UP) * ROLLOUTS
    return {role: 1000 * seconds / rollouts for role, seconds in by_role.items()}, phase


def _records(run: Path) -> list[dict[str, float]]:
    file = run / "metrics.jsonl"
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trees", type=Path, nargs="+")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=12)
    given = parser.parse_args()
    results: dict[Path, list[tuple[dict[str, float], float]]] = defaultdict(list)
    for _ in range(given.rounds):
        for tree in given.trees:
            results[tree].append(measure(tree.resolve(), given.steps))
    roles = sorted({role for found in results.values() for of_round, _ in found for role in of_round})
    rows: list[list[str]] = []
    figures: dict[Path, dict[str, float]] = {}
    for tree, found in results.items():
        medians = {role: statistics.median(of_round.get(role, 0.0) for of_round, _ in found) for role in roles}
        beside = sum(value for role, value in medians.items() if role not in BESIDE)
        phase = statistics.median(seconds for _, seconds in found)
        figures[tree] = {**medians, "beside engine and ranks": beside, "rollout phase, s": phase}
    for name in [*roles, "beside engine and ranks", "rollout phase, s"]:
        values = [figures[tree][name] for tree in given.trees]
        if max(values) >= 0.05:
            ratios = [f"{value / values[0]:.2f}" for value in values[1:]] if values[0] else []
            rows.append([name, *(f"{value:.2f}" for value in values), *ratios])
    headings = ["CPU ms a rollout", *map(str, given.trees), *(f"{tree} / {given.trees[0]}" for tree in given.trees[1:])]
    Console(width=160).print(table("", headings, rows))


if __name__ == "__main__":
    main()
