"""What saving and going on cost: time to the first step fresh and resumed, and a step's time with and without a save.

``python tests/benchmarks/resume.py --out FOLDER`` trains the quickstart for a few steps, saving after each, with the
writing in the foreground and in the background, then goes on for a few steps more, and prints seconds and ratios.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from statistics import median

from mrpo.record.phase import Phase
from mrpo.record.run_folder import RunFolder


def train(folder: Path, steps: int, *overrides: str) -> RunFolder:
    command = [sys.executable, "-m", "mrpo.cli.main", "train", "recipe=quickstart", f"run_dir={folder}"]
    command += [f"trainer.total_training_steps={steps}", "checkpoint.every=1", *overrides]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return RunFolder(folder)


def seconds_to_first_step(run: RunFolder, attempt: int, first_step: int) -> float:
    """From an attempt's first event to the end of the first step that it made."""
    began = [event["time"] for event in run.events() if event["phase"] == Phase.ATTEMPT][attempt - 1]
    return next(record["time"] for record in run.metrics() if record["step"] == first_step) - began


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=6)
    options = parser.parse_args()
    runs = {
        mode: train(options.out / mode, options.steps, f"checkpoint.asynchronous={mode == 'background'}")
        for mode in ("foreground", "background")
    }
    for mode, run in runs.items():
        records = run.metrics()[1:]
        blocked = median(record["checkpoint/blocked_seconds"] for record in records)
        step = median(record["time/step"] for record in records)
        print(f"saving in the {mode}: blocks {blocked:.2f} s a save, {blocked / step:.0%} of a step of {step:.2f} s")
    run = runs["foreground"]
    fresh = seconds_to_first_step(run, 1, 1)
    train(run.path, options.steps + 2)
    resumed = seconds_to_first_step(run, 2, options.steps + 1)
    print(f"to the end of the first step: fresh {fresh:.1f} s, resumed {resumed:.1f} s, {resumed / fresh:.2f}x")


if __name__ == "__main__":
    main()
