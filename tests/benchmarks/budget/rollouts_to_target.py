"""Rollouts to a target reward in real training, uniform against history-based allocation, over seeds.

``python tests/benchmarks/budget/rollouts_to_target.py --out FOLDER`` trains a recipe (by default the quickstart on
questions of mixed difficulty) for each seed with either budget, the same number of rollouts a step, in turn, and reads
what was trained before from FOLDER. It prints the rollouts until the mean total reward of the last four steps reached
the target, with the paired difference and its 95 % interval, and draws the curves. A step's reward is the mean over its
prompts, each by the mean of its own rollouts, so that how many a prompt got doesn't move the curve.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from scipy import stats

from mrpo.record.run_folder import RunFolder

BUDGETS = {
    "uniform": ["budget.method=uniform"],
    "neyman": ["budget.method=neyman", "budget.signal=estimator", "budget.low=2", "budget.high=24"],
}
WINDOW, ROLLOUTS = 4, 128


def total_reward(recipe: str, out: Path, budget: str, seed: int, steps: int) -> np.ndarray:
    """Mean over prompts of the mean total reward, of each step; trains if this run isn't in ``out`` yet."""
    run = RunFolder(out / f"{budget}-{seed}")
    if len(run.metrics()) < steps:
        command = [sys.executable, "-m", "mrpo.cli.main", "train", f"recipe={recipe}", f"run_dir={run.path}"]
        command += [f"seed={seed}", f"trainer.total_training_steps={steps}", *BUDGETS[budget]]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return np.array([prompt_mean(run.read_rollouts(step)) for step in range(1, steps + 1)])


def prompt_mean(rollouts: list[dict[str, Any]]) -> float:
    totals: dict[str, list[float]] = {}
    for row in rollouts:
        totals.setdefault(row["uid"], []).append(sum(row["rewards"].values()))
    return float(np.mean([np.mean(group) for group in totals.values()]))


def rollouts_to(target: float, curve: np.ndarray) -> float:
    smooth = np.convolve(curve, np.ones(WINDOW) / WINDOW, "valid")
    reached = np.flatnonzero(smooth >= target)
    return (reached[0] + WINDOW) * ROLLOUTS if len(reached) else np.nan


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--recipe", default="quickstart/mixed")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=28)
    parser.add_argument("--target", type=float, default=2.0)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    curves: dict[str, list[np.ndarray]] = {budget: [] for budget in BUDGETS}
    for seed in range(options.seeds):
        for budget, done in curves.items():
            done.append(total_reward(options.recipe, options.out, budget, seed, options.steps))
    needed = {budget: np.array([rollouts_to(options.target, c) for c in runs]) for budget, runs in curves.items()}
    for budget, rollouts in needed.items():
        print(
            f"{budget}: rollouts to a total reward of {options.target}: {rollouts.tolist()}, mean {rollouts.mean():.0f}"
        )
    difference = needed["neyman"] - needed["uniform"]
    interval = stats.ttest_1samp(difference, 0.0).confidence_interval(0.95)
    print(
        f"neyman - uniform: {difference.mean():+.0f} rollouts, 95 % [{interval.low:+.0f}, {interval.high:+.0f}], paired"
    )
    if options.plot:
        draw(curves, options.recipe, options.target, options.plot)


def draw(curves: dict[str, list[np.ndarray]], recipe: str, target: float, file: Path) -> None:
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for (budget, runs), colour in zip(curves.items(), ("#555555", "#0072b2"), strict=True):
        stacked = np.array(runs)
        rollouts = np.arange(1, stacked.shape[1] + 1) * ROLLOUTS
        axes.plot(rollouts, stacked.T, color=colour, alpha=0.25, linewidth=0.8)
        axes.plot(rollouts, stacked.mean(axis=0), color=colour, linewidth=2.5, label=budget)
    axes.axhline(target, color="black", linewidth=0.8, linestyle=":")
    axes.set(
        xlabel="rollouts", ylabel="total reward (3 is all)", title=f"{recipe}, {len(stacked)} seeds and their mean"
    )
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=120)


if __name__ == "__main__":
    main()
