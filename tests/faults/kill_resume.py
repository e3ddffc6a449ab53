"""Kill a run at random instants, again and again, and compare what it comes to with a run that nobody touched.

``python tests/faults/kill_resume.py KILLS [--steps S] [--seed SEED] --out FOLDER [-- key=value …]`` trains the
quickstart (or ``recipe=NAME``) once undisturbed and then until KILLS attempts were killed: SIGKILL to the whole
process tree, every third one inside a save, the others at any time, start-up included. The same command is given
again after each kill. A run that reaches its end is compared, and another one begun: every metric of every step but
times and memory, every rollout with its text, scores and advantage, and every byte of the last checkpoint (weights,
optimizer, schedule, random states, prompt history, place in the data). Exits with 1 at the first difference.

With ``rollout.on_sync=continue`` texts may differ, and what follows from them. Compared are then every step's prompts
and number of rollouts: nothing is lost and nothing trained on twice.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

from mrpo.checkpoint.store import CheckpointStore
from mrpo.record.run_folder import RunFolder

BUDGET = ["budget.method=neyman", "budget.signal=estimator", "budget.low=2", "budget.high=24"]
OF_THE_MACHINE = ("time", "train/perf/", "train/mfu/", "train/tokens_per_second", "verl/sync/", "checkpoint/")
"""Metrics that differ from one undisturbed run to the next as well."""


def can_be_repeated(overrides: list[str]) -> bool:
    return "rollout.on_sync=continue" not in overrides


def command(run_dir: Path, steps: int, overrides: list[str]) -> list[str]:
    recipe = [] if any(one.startswith("recipe=") for one in overrides) else ["recipe=quickstart"]
    return [
        *(sys.executable, "-m", "mrpo.cli.main", "train", *recipe, f"run_dir={run_dir}"),
        *(
            f"trainer.total_training_steps={steps}",
            "checkpoint.every=1",
            *(["trainer.determinism=strict"] if can_be_repeated(overrides) else []),
            *BUDGET,
            *overrides,
        ),
    ]


def kill_tree(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to the process and everything it has started, until nothing of it is left."""
    tree = [psutil.Process(process.pid)]
    tree += tree[0].children(recursive=True)
    for member in tree:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait()
    psutil.wait_procs(tree, timeout=30)


def saves(run: RunFolder) -> int:
    return sum(event["phase"] == "save" for event in run.events()) if run.events_file.exists() else 0


def attempt(run: RunFolder, steps: int, draw: random.Random, longest: float, in_save: bool, more: list[str]) -> str:
    """Start the run, and kill it at an instant from ``draw`` unless it ends before. Returns what happened."""
    saved, began = saves(run), time.monotonic()
    with open(run.path.with_suffix(".log"), "ab") as log:
        process = subprocess.Popen(command(run.path, steps, more), stdout=log, stderr=log)
        wait = draw.uniform(0, longest)
        while process.poll() is None:
            if in_save and saves(run) > saved:
                time.sleep(draw.uniform(0, 0.5))
                break
            if not in_save and time.monotonic() - began > wait:
                break
            time.sleep(0.02)
    if process.poll() is not None:
        if process.returncode != 0:
            raise SystemExit(f"an attempt exited with {process.returncode}: {run.path.with_suffix('.log')}")
        return "ended"
    kill_tree(process)
    last = run.events()[-1] if run.events_file.exists() and run.events() else {"phase": "nothing yet", "step": None}
    return f"killed after {time.monotonic() - began:.1f} s in step {last['step']}, {last['phase']}"


def essence(run: RunFolder, steps: int) -> dict[str, Any]:
    """All of a finished run that must not depend on kills."""
    metrics = [{k: v for k, v in record.items() if not k.startswith(OF_THE_MACHINE)} for record in run.metrics()]
    rollouts = {
        step: sorted(run.read_rollouts(step), key=lambda row: (row["uid"], row["sample"]))
        for step in run.rollout_steps()
    }
    files = CheckpointStore(run.checkpoints).load(steps).manifest.files
    if [record["step"] for record in metrics] != list(range(1, steps + 1)) or list(rollouts) != list(
        range(1, steps + 1)
    ):
        raise SystemExit(f"{run.path} lacks steps: {[record['step'] for record in metrics]}, {list(rollouts)}")
    if not all(rollouts.values()) or not all(record["train/grad_norm"] > 0 for record in metrics) or len(files) < 5:
        raise SystemExit(f"{run.path} has learned nothing that could be compared")
    return {"metrics": metrics, "rollouts": rollouts, "files": {name: f.checksum for name, f in files.items()}}


def prompts(run: RunFolder, steps: int) -> dict[int, dict[str, Any]]:
    """Of a finished run that may have sampled other texts: what must not depend on kills all the same."""
    whole = essence(run, steps)
    samples = [(row["uid"], row["sample"]) for rows in whole["rollouts"].values() for row in rows]
    groups = {step: Counter(row["uid"] for row in rows) for step, rows in whole["rollouts"].items()}
    uids = Counter(uid for of_step in groups.values() for uid in of_step)
    if len(samples) != len(set(samples)) or max(uids.values()) > 1:
        raise SystemExit(f"{run.path}: trained on twice: {[uid for uid, n in uids.items() if n > 1] or 'a rollout'}")
    if any(record["rollout/incomplete_groups"] for record in whole["metrics"]):
        raise SystemExit(f"{run.path}: groups have fewer rollouts than were planned")
    return {step: {"prompts": sorted(of), "rollouts": of.total()} for step, of in groups.items()}


def first_difference(expected: Any, found: Any, path: str = "") -> str | None:
    """Where two nested values differ first; NaN equals NaN."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in sorted({*expected, *found}, key=str):
            if key not in expected or key not in found:
                return f"{path}/{key}: only in one"
            if difference := first_difference(expected[key], found[key], f"{path}/{key}"):
                return difference
        return None
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        pairs = enumerate(zip(expected, found, strict=True))
        return next((d for i, (a, b) in pairs if (d := first_difference(a, b, f"{path}/{i}"))), None)
    same = expected == found or (expected != expected and found != found)
    return None if same else f"{path}: {expected!r} without kills, {found!r} with"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kills", type=int)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("overrides", nargs="*", default=[])
    options = parser.parse_intermixed_args()
    options.out.mkdir(parents=True, exist_ok=True)
    draw = random.Random(options.seed)
    golden, began = RunFolder(options.out / "undisturbed"), time.monotonic()
    subprocess.run(command(golden.path, options.steps, options.overrides), check=True, stdout=subprocess.DEVNULL)
    longest = time.monotonic() - began
    compared = essence if can_be_repeated(options.overrides) else prompts
    expected = compared(golden, options.steps)
    print(f"undisturbed: {options.steps} steps in {longest:.0f} s", flush=True)
    kills = runs = 0
    while kills < options.kills:
        run, runs = RunFolder(options.out / f"killed-{runs}"), runs + 1
        happened = ""
        while happened != "ended":
            over = kills >= options.kills
            happened = attempt(
                run, options.steps, draw, 1e9 if over else longest, not over and kills % 3 == 1, options.overrides
            )
            kills += happened != "ended"
            print(f"{run.path.name}: kill {kills}: {happened}" if happened != "ended" else f"{run.path.name}: ended")
        if difference := first_difference(expected, compared(run, options.steps)):
            raise SystemExit(f"{run.path.name} differs: {difference}")
        equal = "metric, rollout and byte saved" if compared is essence else "step's prompts and number of rollouts"
        print(f"{run.path.name}: equal to the undisturbed run in every {equal}", flush=True)
    print(f"{kills} kills in {runs} runs, no difference")


if __name__ == "__main__":
    main()
