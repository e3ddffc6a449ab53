"""Metrics and rollouts of a run with an advantage estimator and a budget that isn't uniform."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mrpo.record.run_folder import RunFolder

from .runs import new_run


def advantage_metrics(step: int, total: int, rewards: Sequence[str], seed: int = 0) -> dict[str, float]:
    """As mrpo.advantages.diagnostics names them: the first rewards run out of variance, the last ones take over."""
    chance, done = random.Random(seed * 1000 + step), step / total
    metrics: dict[str, float] = {}
    raw = [
        0.2 + max(0.0, 1 - abs(2 * done - place / len(rewards)) + chance.gauss(0, 0.1)) for place in range(len(rewards))
    ]
    for place, (reward, size) in enumerate(zip(rewards, raw, strict=True)):
        mean = min(1.0, max(0.0, (0.2 + done * (1 - place / len(rewards))) + chance.gauss(0, 0.03)))
        metrics |= {f"reward/{reward}/mean": mean, f"reward/{reward}/std": (mean * (1 - mean)) ** 0.5}
        metrics[f"reward/{reward}/effective_weight"] = size / sum(raw)
        metrics[f"reward/{reward}/advantage_share"] = size / sum(raw) + chance.gauss(0, 0.05) - 0.1 * (place == 1)
        metrics[f"reward/{reward}/zero_variance_share"] = min(1.0, max(0.0, mean**2 + chance.gauss(0, 0.05)))
        for other, earlier in enumerate(rewards[:place]):
            metrics[f"advantage/correlation/{earlier}/{reward}"] = ((place * 7 + other * 3) % 19 - 9) / 10
            metrics[f"advantage/conflict/{earlier}/{reward}"] = ((place * 5 + other * 11) % 19) / 20
    distinct = float(round(16 - 8 * done + chance.random()))
    metrics |= {"advantage/distinct_rewards": distinct, "advantage/distinct": distinct - step % 3}
    return metrics | {"advantage/dvao_kappa": 0.8 - 0.4 * done, "advantage/keep_ratio": 0.7 + 0.2 * done}


def budget_metrics(step: int, sizes: Sequence[int]) -> dict[str, float]:
    """As mrpo.budget.metrics names them."""
    n, chance = sorted(sizes), random.Random(step)
    places = {"min": 0, "p10": len(n) // 10, "median": len(n) // 2, "p90": len(n) * 9 // 10, "max": -1}
    metrics: dict[str, float] = {f"budget/n/{quantile}": n[place] for quantile, place in places.items()}
    metrics |= {"budget/zero_signal": 0.2 + 0.1 * chance.random(), "budget/zero_signal/uniform": 0.45}
    metrics |= {"budget/variance/predicted": 0.18, "budget/variance/realized": 0.2 + 0.03 * chance.random()}
    return metrics | {"budget/variance/correlation": 0.5 + 0.2 * chance.random()}


def detailed_run(
    tmp: Path, rewards: Sequence[str], steps: int = 6, prompts: int = 12, *, uniform: bool = False, config: str = ""
) -> RunFolder:
    """A prompt's chance of a reward grows with its number; the harder to tell, the more rollouts."""
    folder = new_run(tmp, config)
    folder.announce(steps, rewards)
    for step in range(1, steps + 1):
        chances = [(prompt + 0.5) / prompts for prompt in range(prompts)]
        sizes = [4 if uniform else 2 + round(40 * chance * (1 - chance)) for chance in chances]
        folder.write_metrics(step, advantage_metrics(step, steps, rewards) | budget_metrics(step, sizes))
        folder.write_rollouts(step, _rollouts(step, rewards, chances, sizes))
    folder.event("done")
    return folder


def _rollouts(
    step: int, rewards: Sequence[str], chances: Sequence[float], sizes: Sequence[int]
) -> list[dict[str, Any]]:
    chance = random.Random(step)
    return [
        {"uid": f"{prompt:016x}-{step * 1000 + prompt}", "sample": sample, "advantage": 0.0}
        | {"rewards": {reward: float(chance.random() < chances[prompt]) for reward in rewards}}
        for prompt, size in enumerate(sizes)
        for sample in range(size)
    ]
