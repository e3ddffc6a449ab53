"""What a history adds to small groups, and what it costs: a curriculum whose prompts get easier while they are sampled.

``python tests/benchmarks/advantages/shrinkage.py [--drift 0.1]``

1000 prompts of a binary reward, success rates from a logit-normal with standard deviation 1.5 and mean -1; every step
samples a tenth of them and raises all logits by ``drift`` on average (each prompt at a pace of its own). Over the last
half of 100 steps: bias and root mean square error of the baseline against the true rate, how the advantages correlate
with the ideal ones, (r - p) / sqrt(p (1 - p)), and in what share of the rollouts they aren't 0. Shapes: N rollouts, G
prompt groups.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

from mrpo.advantages import GroupHistory, compute_advantages
from mrpo.budget.history import PromptHistory

PROMPTS, STEPS = 1000, 100
METHODS: dict[str, dict[str, object] | None] = {
    "group alone": None,
    "strength 2": {"strength": 2.0},
    "strength 8": {"strength": 8.0},
    "strength 8, all alike": {"strength": 8.0, "predictor": "cumulative"},
    "strength 32": {"strength": 32.0},
}


def simulate(size: int, drift: float, shrinkage: dict[str, object] | None, seed: int) -> np.ndarray:
    """Bias and error of the baseline, correlation of the advantages, share of them that aren't 0."""
    rng = np.random.default_rng(seed)
    logit, pace = rng.normal(-1, 1.5, PROMPTS), drift * rng.exponential(1.0, PROMPTS)
    history, rows = PromptHistory(["right"], decay=0.98), []
    for step in range(1, STEPS + 1):
        prompts = rng.choice(PROMPTS, PROMPTS // 10, replace=False)
        rate = 1 / (1 + np.exp(-logit[prompts]))
        group_N = np.arange(len(prompts)).repeat(size)
        reward_N = (rng.random(len(group_N)) < rate[group_N]).astype(float)
        config: dict[str, object] = {"estimator": "grpo", "names": ["right"], "std": True}
        known = None
        if shrinkage is not None:
            found = history.evidence(prompts, "cumulative" if "predictor" in shrinkage else "decayed")
            columns = found.trials_GC, found.mean_GC, found.variance_GC
            known = GroupHistory(*(torch.from_numpy(column) for column in columns))
            config["shrinkage"] = shrinkage
        rewards_NK, ids_N = torch.from_numpy(reward_N[:, None]), torch.from_numpy(group_N)
        advantages_N = compute_advantages(rewards_NK, ids_N, config, history=known).advantages_N.numpy()
        centred = compute_advantages(rewards_NK, ids_N, config | {"std": False}, history=known).advantages_N.numpy()
        baseline_N = reward_N - centred
        if step > STEPS // 2:
            ideal_N = (reward_N - rate[group_N]) / np.sqrt(rate * (1 - rate))[group_N]
            rows.append(np.stack([baseline_N - rate[group_N], advantages_N, ideal_N]))
        history.observe(prompts[group_N], reward_N[:, None], step=step)
        logit += pace
    error, advantage, ideal = np.concatenate(rows, axis=1)
    correlation = np.corrcoef(advantage, ideal)[0, 1] if advantage.any() else 0.0
    return np.array([error.mean(), np.sqrt((error**2).mean()), correlation, (advantage != 0).mean()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--drift", type=float, default=0.02, help="mean rise of a prompt's logit per step")
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    print("| rollouts | statistics of | bias of the baseline | its error (rms) | correlation with ideal | not 0 |")
    print("|---|---|---|---|---|---|")
    for size in (1, 2, 4, 8):
        for name, shrinkage in METHODS.items():
            found = np.mean([simulate(size, given.drift, shrinkage, seed) for seed in range(given.seeds)], axis=0)
            print(f"| {size} | {name} | {found[0]:+.3f} | {found[1]:.3f} | {found[2]:.2f} | {found[3]:.0%} |")


if __name__ == "__main__":
    main()
