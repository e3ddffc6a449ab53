"""What a long run takes on disk: its rollouts by simulation, through the writers that a run uses.

``python tests/benchmarks/disk.py [ROLLOUTS]`` writes a run of a million rollouts (128 a step, a validation of 500
prompts every 100 steps), with what ``observe`` offers, and prints the size of each part. Where all steps are recorded,
one in 100 is written and the rest is reckoned. Responses have 1,000 characters.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from mrpo.config.observe import ObserveConfig, RolloutRecord, StepRecord
from mrpo.record.phase import STEP_PHASES
from mrpo.record.run_folder import RunFolder

PER_STEP, GROUP, TEST_FREQ, VALIDATION = 128, 8, 100, 500
CHARACTERS = {"prompt": 300, "response": 1000}
METRICS = {f"rollout/some_metric_of_the_step/{n:03}": 0.123456789012345 for n in range(130)}
SETTINGS = {
    "all (default)": ObserveConfig(),
    "every=10": ObserveConfig(rollouts=RolloutRecord(every=10), validations=10),
    "sample=16": ObserveConfig(rollouts=RolloutRecord(sample=16), validations=10),
    "every=100 sample=64": ObserveConfig(rollouts=RolloutRecord(every=100, sample=64), validations=10),
    "+ metrics every=10": ObserveConfig(
        rollouts=RolloutRecord(every=100, sample=64), validations=10, metrics=StepRecord(every=10)
    ),
}
"""By ``observe.rollouts``; all but the default keep 10 validations, and the last a tenth of the metrics."""


def row(step: int, number: int) -> dict[str, Any]:
    texts = {name: "x" * length for name, length in CHARACTERS.items()}
    rewards = {"correct": 0.25, "tagged": 1.0, "short": 0.123456}
    names = {"uid": f"{step:08x}{number // GROUP:08x}-{step // 50}", "sample": number % GROUP}
    about = {"advantage": -0.123456789, "keep": True, "tokens": 250, "truncated": False}
    return {**names, **texts, "ground_truth": "42", "rewards": rewards, **about}


def simulate(folder: RunFolder, observe: ObserveConfig, steps: int, written: int) -> dict[str, float]:
    """Megabytes by part of a run of so many steps, of which each ``written``-th is written."""
    for step in range(1, steps + 1):
        if step % written:
            continue
        for phase in STEP_PHASES:
            folder.event(phase, step=step)
        if observe.rollouts.has(step, steps):
            rows = [row(step, number) for number in range(PER_STEP)]
            folder.write_rollouts(step, observe.rollouts.of(rows))
        if step % TEST_FREQ == 0:
            folder.write_validation(step, [row(step, number) for number in range(VALIDATION)])
            if observe.validations is not None:
                folder.drop_validations(observe.validations)
        if observe.metrics.has(step, steps) or step % TEST_FREQ == 0:
            folder.write_metrics(step, METRICS)
    return {
        "rollouts": written * size(folder.rollouts),
        "validation_rollouts": (written if written < TEST_FREQ else 1) * size(folder.validation_rollouts),
        "metrics.jsonl": written * size(folder.metrics_file),
        "events.jsonl": written * size(folder.events_file),
    }


def size(path: Path) -> float:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file()) / 1e6


def main() -> None:
    rollouts = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    steps = -(-rollouts // PER_STEP)
    print(f"{steps * PER_STEP} rollouts in {steps} steps: megabytes")
    for name, observe in SETTINGS.items():
        everything = observe.rollouts.every == 1
        with tempfile.TemporaryDirectory() as temporary:
            parts = simulate(RunFolder(temporary), observe, steps, written=100 if everything else 1)
        shown = "  ".join(f"{part} {megabytes:.0f}" for part, megabytes in parts.items())
        print(f"{name:20} {sum(parts.values()):7.0f} in all: {shown}", flush=True)


if __name__ == "__main__":
    main()
