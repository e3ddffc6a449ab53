"""Runs to compare: in memory, and as they lie on disk."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mrpo.compare.run import Run

SETTINGS: dict[str, Any] = {
    "data": {"train_batch_size": 4},
    "budget": {"rollouts_per_prompt": 2, "unit": "rollouts", "filter_groups": None, "rounds": None},
}


def a_run(
    name: str, seed: int | None = 0, group: str | None = "a", state: str = "done", **rewards: Sequence[float]
) -> Run:
    """One run whose rewards have these values from step 1 on."""
    steps = np.arange(1, 1 + max(map(len, rewards.values()), default=0)).astype(np.float64)
    measures = {reward: np.array(values, dtype=float) for reward, values in rewards.items()}
    return Run(name, steps, measures, {"steps": steps}, seed=seed, group=group, state=state)


def write_run(
    folder: Path,
    rewards: Mapping[str, Sequence[float | None]],
    seed: int = 0,
    end: str = "done",
    settings: Mapping[str, Any] = SETTINGS,
) -> Path:
    """A run's folder as ``mrpo train`` leaves it, as far as a comparison looks at it."""
    folder.mkdir(parents=True)
    content = {"recipe": "quickstart", "run_dir": str(folder), "seed": seed, **settings}
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    steps = range(1, 1 + max(map(len, rewards.values())))
    lines: list[dict[str, Any]] = []
    for step in steps:
        line = {"step": step, "time": 1e9 + step, "time/step": 2.0, "train/tokens": 100}
        means = {f"reward/{name}/mean": values[step - 1] for name, values in rewards.items() if step <= len(values)}
        lines.append({**line, "rollout/response_length/mean": 9.0, **means})
    ends = [{"time": 1e9 + 99, "phase": end, "step": None, "detail": "out of memory" * (end == "failed")}] * bool(end)
    events = [{"time": 1e9, "phase": "attempt", "step": None, "detail": "1"}, *ends]
    for file, records in (("metrics.jsonl", lines), ("events.jsonl", events)):
        (folder / file).write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder
