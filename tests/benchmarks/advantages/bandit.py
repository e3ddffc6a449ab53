"""Where the estimators part ways: a softmax bandit with two conflicting rewards and a noisy one, 20 seeds.

    python tests/benchmarks/advantages/bandit.py               # prints the table and writes docs/advantages.png
    python tests/benchmarks/advantages/bandit.py --noise 0.25 --plot /tmp/gentle.png    # a gentle scorer

A prompt is a bandit with 8 arms (answers). "right" is 1 on three of them. "short" is graded and mostly against it:
right arms are long, but for one, the arm to find. "taste" comes from a scorer that hardly separates arms and errs a
lot. Each method trains the same softmax policies by plain policy gradient from the same seeds; what is measured is the
policy's expected score without the scorer's errors.

Shapes: N rollouts, K rewards, P prompts, M arms, S samples a prompt.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from torch import Tensor

from mrpo.advantages import compute_advantages, noise_variance_from_repeats

PROMPTS, ARMS, SAMPLES, STEPS, SEEDS, RATE = 16, 8, 8, 60, 20, 0.6
NAMES = ("right", "short", "taste")
METHODS: dict[str, dict[str, Any]] = {
    "GRPO": {"estimator": "grpo"},
    "GDPO": {"estimator": "gdpo"},
    "DVAO": {"estimator": "dvao", "ranges": "declared"},
    "DVAO, noise-corrected": {"estimator": "dvao", "ranges": "declared", "noise_variance": "measured"},
    "GD2PO": {"estimator": "gd2po", "query_weight": "loss", "tau": 0.5},
}


def arms(generator: torch.Generator) -> Tensor:
    """True scores (P,M,3)."""
    right_PM = torch.zeros(PROMPTS, ARMS, dtype=torch.float64)
    right_PM[:, :3] = 1
    short_PM = 0.6 + 0.4 * torch.rand(PROMPTS, ARMS, generator=generator, dtype=torch.float64)
    short_PM[:, 1:3] *= 0.2
    short_PM[:, 0] = 0.8
    taste_PM = 0.2 * torch.rand(PROMPTS, ARMS, generator=generator, dtype=torch.float64)
    return torch.stack((right_PM, short_PM, taste_PM), dim=-1)


def train(seed: int, method: dict[str, Any], noise: float) -> Tensor:
    """Expected true scores per step (STEPS,3)."""
    generator = torch.Generator().manual_seed(seed)
    true_PMK = arms(generator)
    logits_PM = torch.zeros(PROMPTS, ARMS, dtype=torch.float64)
    config = {"names": NAMES, **method}
    if "ranges" in method:
        config["ranges"] = {"taste": (-3 * noise, 3 * noise)}
    if "noise_variance" in method:
        config["noise_variance"] = measured_noise(true_PMK, generator, noise)
    ids_N = torch.arange(PROMPTS).repeat_interleave(SAMPLES)
    curve = []
    for _ in range(STEPS):
        policy_PM = logits_PM.softmax(dim=1)
        curve.append((policy_PM[..., None] * true_PMK).sum(dim=1).mean(dim=0))
        drawn_PS = torch.multinomial(policy_PM, SAMPLES, replacement=True, generator=generator)
        rewards_NK = score(true_PMK[ids_N, drawn_PS.flatten()], generator, noise)
        result = compute_advantages(rewards_NK, ids_N, config)
        weight_N = result.advantages_N * (1.0 if result.loss_weights_N is None else result.loss_weights_N)
        chosen_PSM = torch.nn.functional.one_hot(drawn_PS, ARMS).double()
        score_PSM = chosen_PSM - policy_PM[:, None]
        gradient_PM = (weight_N.view(PROMPTS, SAMPLES, 1) * score_PSM).sum(dim=1) / SAMPLES
        logits_PM = logits_PM + RATE * gradient_PM
    return torch.stack(curve)


def score(true_NK: Tensor, generator: torch.Generator, noise: float) -> Tensor:
    errors_N = noise * torch.randn(len(true_NK), generator=generator, dtype=torch.float64)
    return true_NK + torch.stack((0 * errors_N, 0 * errors_N, errors_N), dim=1)


def measured_noise(true_PMK: Tensor, generator: torch.Generator, noise: float) -> dict[str, float]:
    """From every arm scored twice before training."""
    once_NK, twice_NK = (score(true_PMK.flatten(0, 1), generator, noise) for _ in range(2))
    return dict(zip(NAMES, noise_variance_from_repeats(once_NK, twice_NK).tolist(), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plot", type=Path, default=Path(__file__).parents[3] / "docs" / "advantages.png")
    parser.add_argument("--noise", type=float, default=3.0, help="standard deviation of the taste scorer's errors")
    options = parser.parse_args()
    torch.set_num_threads(1)
    curves = {}
    print("| method | right | short | right + short | ± std error |")
    print("|---|---|---|---|---|")
    for name, method in METHODS.items():
        runs = [train(seed, method, options.noise) for seed in range(SEEDS)]
        curves[name] = torch.stack(runs).numpy()
        final = curves[name][:, -1]
        both = final[:, 0] + final[:, 1]
        error = both.std(ddof=1) / SEEDS**0.5
        print(f"| {name} | {final[:, 0].mean():.3f} | {final[:, 1].mean():.3f} | {both.mean():.3f} | {error:.3f} |")
    plot(options.plot, curves)


def plot(file: Path, curves: dict[str, np.ndarray]) -> None:
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (front, rise) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for name, curve in curves.items():
        mean = curve.mean(axis=0)
        (line,) = front.plot(mean[:, 1], mean[:, 0], label=name)
        front.plot(mean[-1, 1], mean[-1, 0], "o", color=line.get_color())
        both = curve[..., 0] + curve[..., 1]
        error = both.std(axis=0, ddof=1) / SEEDS**0.5
        rise.plot(both.mean(axis=0), color=line.get_color())
        rise.fill_between(range(STEPS), both.mean(axis=0) - error, both.mean(axis=0) + error, alpha=0.2, lw=0)
    front.set(xlabel="short (expected)", ylabel="right (expected)", title="path of the policy, mean of 20 seeds")
    front.legend(fontsize="small")
    rise.set(xlabel="step", ylabel="right + short (expected)", title="what is learned, ± standard error")
    figure.savefig(file, dpi=120)


if __name__ == "__main__":
    main()
