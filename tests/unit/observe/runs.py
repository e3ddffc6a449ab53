"""Run folders to test with, written through the writers that a real run uses."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

from mrpo.record.run_folder import RunFolder

REWARDS = ("correct", "format", "short")
STARTUP = (("start ray", 8.0), ("load model", 24.0), ("start vLLM", 46.0))


def new_run(tmp: Path, config: str = "recipe: quickstart\n") -> RunFolder:
    return RunFolder.create("quickstart", config, runs=tmp / "runs")


def metrics_of(step: int, total: int = 40, seed: int = 0) -> dict[str, float]:
    """One step of a run in which the rewards rise at different speeds and one dips before it rises."""
    chance, done = random.Random(seed * 1000 + step), step / total
    means = {
        "correct": 0.08 + 0.62 / (1 + math.exp(-9 * (done - 0.55))),
        "format": 0.25 + 0.72 * (1 - math.exp(-7 * done)),
        "short": 0.7 - 0.35 * math.exp(-(((done - 0.25) / 0.13) ** 2)) + 0.15 * done,
    }
    metrics: dict[str, float] = {}
    for name, mean in means.items():
        noisy = min(0.99, max(0.01, mean + chance.gauss(0, 0.035)))
        metrics |= {f"reward/{name}/mean": noisy, f"reward/{name}/std": math.sqrt(noisy * (1 - noisy))}
    length = 27 - 9 * done + chance.gauss(0, 0.8)
    metrics |= {f"rollout/response_length/{end}": length + by for end, by in (("mean", 0), ("min", -11), ("max", 5))}
    times = {"rollout": 0.65, "old_log_prob": 0.3, "advantage": 0.03, "update_actor": 0.55, "update_weights": 0.13}
    times = {phase: seconds * chance.uniform(0.9, 1.25) for phase, seconds in times.items()}
    if step == 1:
        times["rollout"] += 26
    if step % 10 == 0:
        times["save"] = 0.6
    metrics |= {f"time/{phase}": seconds for phase, seconds in times.items()}
    metrics["time/step"] = sum(times.values()) + 0.08
    metrics |= {"train/entropy": 2.1 * math.exp(-1.6 * done) + chance.gauss(0, 0.04) + 0.2}
    metrics |= {"train/ppo_kl": 0.002 * chance.random(), "train/grad_norm": 0.4 + 0.3 * chance.random()}
    return metrics


def rollouts_of(step: int, prompts: int = 2, samples: int = 4) -> list[dict[str, Any]]:
    chance = random.Random(step)
    rows = []
    for prompt in range(prompts):
        for sample in range(samples):
            rewards = {name: float(chance.random() < 0.5) for name in REWARDS}
            row = {"uid": f"p{step}-{prompt}", "sample": sample, "prompt": "What is 3 + 4?", "ground_truth": "7"}
            row |= {"response": f"<answer>{chance.randrange(10)}</answer>", "rewards": rewards, "keep": True}
            rows.append(row | {"advantage": sum(rewards.values()) - 1.5, "tokens": chance.randrange(4, 30)})
    return rows


def recorded_run(tmp: Path, steps: int = 12, total: int = 40, end: str = "done") -> RunFolder:
    """A run as it would lie on disk, with times as they would have passed (the writers stamp the present)."""
    folder, now = new_run(tmp), 1_700_000_000.0
    events: list[dict[str, Any]] = [
        {"time": now, "phase": "plan", "step": None, "total_steps": total, "rewards": list(REWARDS), "first_step": 1}
    ]
    for phase, seconds in STARTUP:
        events.append({"time": now, "phase": phase, "step": None, "detail": ""})
        now += seconds
    lines = []
    for step in range(1, steps + 1):
        metrics = metrics_of(step, total)
        for phase in ("rollout", "old_log_prob", "advantage", "update_actor", "update_weights"):
            events.append({"time": now, "phase": phase, "step": step, "detail": ""})
            now += metrics[f"time/{phase}"]
        lines.append({"step": step, "time": now, **metrics})
        folder.write_rollouts(step, rollouts_of(step))
    if end:
        events.append({"time": now, "phase": end, "step": None, "detail": "KeyError: 'x'" if end == "failed" else ""})
    for file, records in ((folder.events_file, events), (folder.metrics_file, lines)):
        file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder
