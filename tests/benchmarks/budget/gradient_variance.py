"""Variance of a real policy gradient under each allocation, at an equal budget of rollouts.

    python tests/benchmarks/budget/gradient_variance.py [--repeats 400] [--picture docs/budget_gradient_variance.png]

A small autoregressive policy (embeddings and an MLP, in torch) writes 8 tokens to each of 64 prompts. A prompt's reward
is 1 if the sum of its own token scores reaches its own threshold, which is set so that the policy succeeds with the
wanted probability p. The gradient is REINFORCE with the leave-one-out baseline, 1/n per rollout: unbiased for every
allocation. Its variance is the trace of the covariance over all parameters, measured over independent repeats;
intervals are 95 % bootstrap intervals of the ratio to uniform.

``known p`` allocates with the true success rates, ``16 seen`` with fresh counts of 16 earlier rollouts each time, read
as a Beta posterior. ``measured sigma`` is Neyman's division with every prompt's gradient variance, measured on 1000
rollouts, in place of p(1 − p): about what a perfect signal would reach.

Shapes: ``N`` rollouts, ``G`` prompt groups, ``T`` tokens, ``V`` vocabulary.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from mrpo.budget.allocate import allocate
from mrpo.budget.offline import stats_from_rates
from mrpo.budget.stats import FloatArray, IntArray, PromptStats
from mrpo.budget.weights import rollout_weights

PROMPTS, TOKENS, VOCABULARY, WIDTH = 64, 8, 12, 32
MEAN, LOW, HIGH = 16, 2, 128

METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "uniform": ("uniform", {}),
    "neyman": ("neyman", {}),
    "dynamo (as released)": ("dynamo", {}),
    "dynamo, n ∝ variance": ("dynamo", {"above_low": False, "mastery": 1.0, "floor": 0.0}),
    "dynamo, power 0.5": ("dynamo", {"power": 0.5, "above_low": False, "mastery": 1.0}),
    "vip (rloo)": ("vip", {"estimator": "rloo"}),
    "vip (dr_grpo)": ("vip", {"estimator": "dr_grpo"}),
    "knapsack": ("knapsack", {}),
    "gvm": ("gvm", {}),
    "measured sigma": ("neyman", {}),
}


def mixes() -> dict[str, FloatArray]:
    """Success rates from .02 to .98, mixed in three ways."""
    spread = np.linspace(0.02, 0.98, PROMPTS)
    edges = np.sort(np.random.default_rng(0).beta(0.25, 0.25, PROMPTS))
    few = np.concatenate([np.full(26, 0.02), np.full(26, 0.98), np.linspace(0.1, 0.9, PROMPTS - 52)])
    return {"even": spread, "U-shaped": np.clip(edges, 0.02, 0.98), "extremes": few}


class Policy(nn.Module):
    """Next token from the prompt, the last token and the place."""

    def __init__(self) -> None:
        super().__init__()
        self.prompt = nn.Embedding(PROMPTS, WIDTH)
        self.last = nn.Embedding(VOCABULARY + 1, WIDTH)
        self.place = nn.Embedding(TOKENS, WIDTH)
        self.head = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, VOCABULARY))

    def forward(self, prompt: torch.Tensor, last: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(torch.tanh(self.prompt(prompt) + self.last(last) + self.place(place)))
        return logits.log_softmax(-1)

    def log_prob(self, prompt_N: torch.Tensor, tokens_NT: torch.Tensor) -> torch.Tensor:
        start = torch.full_like(tokens_NT[:, :1], VOCABULARY)
        last = torch.cat([start, tokens_NT[:, :-1]], dim=1)
        place = torch.arange(TOKENS).expand_as(tokens_NT)
        logits = self(prompt_N[:, None].expand_as(tokens_NT), last, place)
        return logits.gather(-1, tokens_NT[..., None]).squeeze(-1).sum(-1)


@dataclass
class World:
    """The policy at fixed parameters, and rewards whose success rates are as wanted."""

    policy: Policy
    table: FloatArray
    """Cumulated probabilities of the next token, [G, T, V + 1, V]."""
    score: FloatArray
    threshold: FloatArray

    @classmethod
    def make(cls, rate_G: FloatArray) -> World:
        torch.manual_seed(0)
        policy = Policy()
        grid = torch.meshgrid(torch.arange(PROMPTS), torch.arange(TOKENS), torch.arange(VOCABULARY + 1), indexing="ij")
        with torch.no_grad():
            table = policy(grid[0], grid[2], grid[1]).double().exp().cumsum(-1).numpy()
        rng = np.random.default_rng(1)
        world = cls(policy, table, rng.normal(size=(PROMPTS, TOKENS, VOCABULARY)), np.zeros(PROMPTS))
        for prompt, rate in enumerate(rate_G):
            rollouts = np.full(40_000, prompt)
            world.threshold[prompt] = np.quantile(world.scores(rollouts, world.sample(rollouts, rng)), 1 - rate)
        return world

    def sample(self, prompt_N: IntArray, rng: np.random.Generator) -> IntArray:
        tokens = np.empty((len(prompt_N), TOKENS), dtype=np.int64)
        last = np.full(len(prompt_N), VOCABULARY)
        for t in range(TOKENS):
            last = (rng.random(len(prompt_N))[:, None] > self.table[prompt_N, t, last]).sum(-1).clip(0, VOCABULARY - 1)
            tokens[:, t] = last
        return tokens

    def scores(self, prompt_N: IntArray, tokens_NT: IntArray) -> FloatArray:
        total: FloatArray = self.score[prompt_N[:, None], np.arange(TOKENS), tokens_NT].sum(-1)
        return total

    def rewards(self, prompt_N: IntArray, tokens_NT: IntArray) -> FloatArray:
        return (self.scores(prompt_N, tokens_NT) >= self.threshold[prompt_N]).astype(np.float64)

    def gradient(self, n_G: IntArray, rng: np.random.Generator) -> FloatArray:
        """One estimate of the gradient of the mean success rate, from n_G rollouts."""
        prompt_N = np.arange(PROMPTS).repeat(n_G)
        tokens = self.sample(prompt_N, rng)
        reward = self.rewards(prompt_N, tokens)
        others = np.bincount(prompt_N, reward, minlength=PROMPTS)[prompt_N] - reward
        advantage = (reward - others / (n_G[prompt_N] - 1)) * rollout_weights(prompt_N)
        return self.backward(prompt_N, tokens, advantage / len(prompt_N))

    def backward(self, prompt_N: IntArray, tokens_NT: IntArray, weight_N: FloatArray) -> FloatArray:
        log_prob = self.policy.log_prob(torch.from_numpy(prompt_N), torch.from_numpy(tokens_NT))
        loss = (log_prob * torch.from_numpy(weight_N).float()).sum()
        parts = torch.autograd.grad(loss, list(self.policy.parameters()))
        return torch.cat([part.flatten() for part in parts]).double().numpy()

    def rollout_variance(self, rate_G: FloatArray, rng: np.random.Generator, samples: int = 1000) -> FloatArray:
        """Trace of the covariance of one rollout's (r − p) ∇ log π, for each prompt."""
        variance = np.empty(PROMPTS)
        for prompt in range(PROMPTS):
            rollouts = np.full(samples, prompt)
            tokens = self.sample(rollouts, rng)
            weight = self.rewards(rollouts, tokens) - rate_G[prompt]
            gradients = np.stack(
                [self.backward(rollouts[j : j + 1], tokens[j : j + 1], weight[j : j + 1]) for j in range(samples)]
            )
            variance[prompt] = gradients.var(axis=0, ddof=1).sum()
        return variance


def seen(rate_G: FloatArray, rng: np.random.Generator, trials: int = 16) -> PromptStats:
    """What a history of some rollouts says, as a Beta(1, 1) posterior."""
    a = 1 + rng.binomial(trials, rate_G)
    b = 2 + trials - a
    return PromptStats(np.full(PROMPTS, float(trials)), a / (a + b), a * b / ((a + b) * (a + b + 1)))


def deviations(world: World, allocation: Callable[[], IntArray], repeats: int, rng: np.random.Generator) -> FloatArray:
    """Squared distance of each repeat's gradient from their mean; its sum over (repeats − 1) is the variance."""
    gradients = np.stack([world.gradient(allocation(), rng) for _ in range(repeats)])
    square: FloatArray = ((gradients - gradients.mean(axis=0)) ** 2).sum(axis=1)
    return square * repeats / (repeats - 1)


def interval(value: FloatArray, base: FloatArray, rng: np.random.Generator) -> tuple[float, float, float]:
    """Ratio of means, with its 95 % bootstrap interval (0 wide for the base itself)."""
    if value is base:
        return 1.0, 1.0, 1.0
    pick = rng.integers(0, len(value), (2, 4000, len(value)))
    ratios = value[pick[0]].mean(axis=1) / base[pick[1]].mean(axis=1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(value.mean() / base.mean()), float(low), float(high)


Ratios = dict[str, tuple[float, float, float]]


def measure(rate_G: FloatArray, repeats: int) -> tuple[dict[str, Ratios], float]:
    """Ratios to uniform by kind of knowledge and method, and what theory promises neyman if σ² ∝ p(1 − p)."""
    world, rng = World.make(rate_G), np.random.default_rng(2)
    exact = stats_from_rates(rate_G)
    true = PromptStats(exact.trials_G, rate_G, world.rollout_variance(rate_G, rng))
    total = PROMPTS * MEAN
    result: dict[str, Ratios] = {}
    base: FloatArray | None = None
    for kind in ("known p", "16 seen"):
        result[kind] = {}
        for name, (method, options) in METHODS.items():
            if kind == "16 seen" and name in ("uniform", "measured sigma"):
                continue

            def allocation(name: str = name, method: str = method, options: dict[str, Any] = options) -> IntArray:
                known = true if name == "measured sigma" else exact if kind == "known p" else seen(rate_G, rng)  # noqa: B023
                return allocate(method, known, total, LOW, HIGH, **options)

            square = deviations(world, allocation, repeats, rng)
            base = square if base is None else base
            result[kind][name] = interval(square, base, rng)
    sigma = np.sqrt(exact.variance_G)
    return result, float(sigma.mean() ** 2 / (sigma**2).mean())


def draw(results: dict[str, dict[str, Ratios]], path: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = [name for name in METHODS if name != "uniform"]
    figure, axes = pyplot.subplots(1, len(results), figsize=(12, 4), sharey=True)
    for axis, (mix, kinds) in zip(axes, results.items(), strict=True):
        for offset, (kind, colour) in zip((0.15, -0.15), (("known p", "#1f5fa8"), ("16 seen", "#d98324")), strict=True):
            for place, name in enumerate(names):
                if name in kinds[kind]:
                    ratio, low, high = kinds[kind][name]
                    axis.errorbar(
                        ratio, -place + offset, xerr=[[ratio - low], [high - ratio]], fmt="o", color=colour, capsize=3,
                        label=kind if place == 0 else None,
                    )  # fmt: skip
        axis.axvline(1, color="black", linewidth=1)
        axis.axvline(0.7, color="grey", linewidth=1, linestyle=":")
        axis.set_title(f"{mix} success rates")
        axis.set_xlabel("gradient variance / uniform's")
        axis.grid(axis="x", alpha=0.3)
    axes[0].set_yticks([-i for i in range(len(names))], names)
    axes[0].legend(loc="lower right")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=400)
    parser.add_argument("--picture")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = {}
    print(f"{PROMPTS} prompts, {MEAN} rollouts each on average, bounds {LOW}..{HIGH}, {arguments.repeats} repeats")
    print("gradient variance over uniform's, with 95 % interval\n")
    for mix, rate_G in mixes().items():
        results[mix], promise = measure(rate_G, arguments.repeats)
        print(f"success rates: {mix} (neyman in theory, were the variance p(1 − p): {promise:.2f})\n")
        print("| method | known p | 16 seen |\n|---|---|---|")
        for name in METHODS:
            cells = [
                "{:.2f} ({:.2f} to {:.2f})".format(*kind[name]) if name in kind else ""
                for kind in results[mix].values()
            ]
            print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
        print()
    if arguments.picture:
        draw(results, arguments.picture)


if __name__ == "__main__":
    main()
