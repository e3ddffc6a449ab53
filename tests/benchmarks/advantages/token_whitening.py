"""Does a batch norm that counts tokens shorten responses by itself? Runs ``mrpo compare``, and lays pairs side by side.

``python tests/benchmarks/advantages/token_whitening.py --out FOLDER [--steps 50] [--seeds 5] [--dry-run]``

verl's batch norm counts each token once (``preset: verl``), so that the advantages' mean over rollouts isn't 0 but some
b: above it where the rollouts that do worse are the longer ones. To first order a constant b changes nothing of a loss
that is a mean over tokens, and adds b times the gradient of E[1/length] to one that averages each rollout over its own
tokens first. So with ``seq-mean-token-mean`` responses should get shorter than with ``preset: paper`` where b is above
0, longer where it is below, and with ``token-mean`` they shouldn't differ. Three tasks, by which of them b differs:

- ``short``: the quickstart as it is, with a reward for short responses;
- ``silent``: without it. Responses may have 48 tokens, of which hardly any has so many;
- ``cut``: without it, and responses end at 16 tokens, so that chatter costs the answer: long ones are wrong.

The table has, of each task and loss, the mean over seeds of b (``advantage/mean`` of ``preset: verl``), and of the
length and each reward in the last quarter with either preset the means and the paired difference with its 95 % t
interval. ``FOLDER`` also gets all that ``mrpo compare`` writes; the same command goes on where it was.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from statistics import fmean

import numpy as np
import yaml

from mrpo.compare.find import CELLS
from mrpo.compare.run import LENGTH, Run, read_run
from mrpo.compare.statistics import final, interval
from mrpo.record.run_folder import RunFolder

PRESETS, LOSSES = ("paper", "verl"), ("seq-mean-token-mean", "token-mean")
TASKS = {"short": (1.0, 48), "silent": (0.0, 48), "cut": (0.0, 16)}
"""Weight of the reward for short responses, and the most tokens of a response."""
WHOLE = f"{LENGTH}, all steps"
"""Answers end at about four tokens, below which no reward is earned, so that the end alone may show no difference."""
METRICS_ALONE = (
    "trainer.test_freq=-1",
    "trainer.val_before_train=false",
    "trainer.export=none",
    "checkpoint.final=false",
    "observe.rollouts={sample: 1}",
    "trainer.logger=[]",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--losses", nargs="+", choices=LOSSES, default=list(LOSSES))
    parser.add_argument("--dry-run", action="store_true", help="list the cells, run none")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    grid = given.out / "grid.yaml"
    grid.write_text(yaml.safe_dump([part(task, given.losses, given.seeds) for task in given.tasks], sort_keys=False))
    command = [sys.executable, "-m", "mrpo.cli.main", "compare", "recipe=quickstart", str(grid), *METRICS_ALONE]
    command += [f"trainer.total_training_steps={given.steps}", "--out", str(given.out)]
    done = subprocess.run([*command, *(["--dry-run"] if given.dry_run else [])], check=False)
    if done.returncode == 0 and not given.dry_run:
        print(table(given.out, given.steps))
    return done.returncode


def part(task: str, losses: list[str], seeds: int) -> dict[str, object]:
    """Of the grid's file, the cells of one task."""
    weight, tokens = TASKS[task]
    return {
        "rewards.short.weight": weight,
        "data.max_response_length": tokens,
        "actor.loss_agg_mode": list(losses),
        "algorithm.preset": list(PRESETS),
        "seed": list(range(seeds)),
    }


def table(out: Path, steps: int) -> str:
    """Markdown, a line a task, loss and measure, from the cells that are done."""
    cells: dict[tuple[str, str], dict[str, dict[int, Run]]] = defaultdict(lambda: defaultdict(dict))
    shifts: dict[tuple[str, str], list[float]] = defaultdict(list)
    for folder in map(RunFolder, sorted((out / CELLS).iterdir())):
        run = read_run(folder)
        if not run.complete or run.settings is None or run.seed is None:
            continue
        of = run.settings
        what = of["rewards.short.weight"], of["data.max_response_length"]
        place = next(task for task, settings in TASKS.items() if settings == what), str(of["actor.loss_agg_mode"])
        cells[place][str(of["algorithm.preset"])][run.seed] = run
        if of["algorithm.preset"] == "verl":
            shifts[place].append(fmean(record["advantage/mean"] for record in folder.metrics()))
    lines = ["| task | loss | b | measure | paper | verl | verl - paper | seeds |", "|" + "---|" * 8]
    for (task, loss), presets in cells.items():
        shift = f"{fmean(shifts[task, loss]):+.3f}" if shifts[task, loss] else "–"
        seeds = sorted(presets["paper"].keys() & presets["verl"].keys())
        for measure in (LENGTH, WHOLE, *(name for name in next(iter(next(iter(presets.values())).values())).rewards)):
            ends = {name: [last(presets[name][seed], measure, steps) for seed in seeds] for name in PRESETS}
            difference = interval([b - a for a, b in zip(*ends.values(), strict=True)])
            if difference is None:
                continue
            bounds = "" if difference.low is None else f" ({difference.low:+.3f} to {difference.high:+.3f})"
            means = " | ".join(f"{fmean(values):.3f}" for values in ends.values())
            change = f"{difference.value:+.3f}{bounds}"
            lines.append(f"| {task} | {loss} | {shift} | {measure} | {means} | {change} | {len(seeds)} |")
    return "\n".join(lines)


def last(run: Run, measure: str, steps: int) -> float:
    """In the last quarter; of ``WHOLE`` over all steps."""
    if measure == WHOLE:
        return float(np.nanmean(run.measures[LENGTH]))
    return final(run.steps_T, run.measures[measure], steps)


if __name__ == "__main__":
    sys.exit(main())
