"""Speed of allocation and of the prompt history, each beside a yardstick measured in the same run.

    python tests/benchmarks/budget/budget_speed.py

Allocation: against an argsort of the marginal gains, one for every rollout that may be handed out. History: a step's
8192 rollouts among a hundred thousand prompts.
"""

from __future__ import annotations

import os
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mrpo.budget.allocate import allocate
from mrpo.budget.history import PromptHistory
from mrpo.budget.offline import stats_from_rates

MEAN, LOW, HIGH = 16, 2, 64
METHODS: list[tuple[str, dict[str, Any]]] = [
    ("uniform", {}),
    ("neyman", {}),
    ("dynamo", {}),
    ("vip", {"estimator": "rloo"}),
    ("vip", {"estimator": "dr_grpo"}),
    ("gvm", {}),
    ("knapsack", {}),
]


def seconds(call: Callable[[], object], repeats: int, clock: Callable[[], float] = time.process_time) -> float:
    """The best of some runs, in CPU time, which other processes disturb less."""
    best = float("inf")
    for _ in range(repeats):
        start = clock()
        call()
        best = min(best, clock() - start)
    return best


def rates(size: int, kind: str, rng: np.random.Generator) -> np.ndarray:
    """Success rates of a data set: all different, or counted out of 16 rollouts, so with many ties."""
    p = rng.beta(0.5, 0.5, size)
    return rng.binomial(16, p) / 16 if kind == "counts" else p


def allocation() -> None:
    rng = np.random.default_rng(0)
    print(f"allocate, mean {MEAN}, bounds {LOW}..{HIGH}: CPU milliseconds, and multiples of an argsort of all gains\n")
    sizes = [(128, "distinct"), (512, "distinct"), (4096, "distinct"), (4096, "counts")]
    print("| method | " + " | ".join(f"{size:,} {kind}" for size, kind in sizes) + " |")
    print("|---|" + "---|" * len(sizes))
    columns = []
    for size, kind in sizes:
        stats = stats_from_rates(rates(size, kind, rng))
        repeats = 5 if size > 1000 else 20
        gains = stats.variance_G[:, None] / np.arange(LOW, HIGH) ** 2
        sort = seconds(partial(np.argsort, -gains, axis=None, kind="stable"), repeats)
        column = [f"{sort * 1e3:.2f}"]
        for method, options in METHODS:
            took = seconds(partial(allocate, method, stats, MEAN * size, LOW, HIGH, **options), repeats)
            column.append(f"{took * 1e3:.2f} ({took / sort:.1f}x)")
        columns.append(column)
    names = ["argsort", *(" ".join([m, *o.values()]) for m, o in METHODS)]
    for row, name in enumerate(names):
        print(f"| {name} | " + " | ".join(column[row] for column in columns) + " |")


def history(size: int = 100_000, batch: int = 8192, rewards: int = 3) -> None:
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 2**63, size).astype(np.uint64)
    tracemalloc.start()
    log = PromptHistory([f"r{k}" for k in range(rewards)])
    for part in np.array_split(ids, size // batch):
        log.observe(part, rng.random((len(part), rewards)))
    memory = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    timed = PromptHistory(log.rewards)
    start = time.process_time()
    for part in np.array_split(ids, size // batch):
        timed.observe(part, rng.random((len(part), rewards)))
    print(f"\nhistory of {size:,} prompts and {rewards} rewards\n")
    print("| what | measured |")
    print("|---|---|")
    call = (time.process_time() - start) / (size // batch)
    print(f"| filled, {batch} new prompts a call | {call * 1e3:.1f} ms a call |")
    groups = rng.choice(ids, batch // 16).repeat(16)
    scattered = rng.choice(ids, batch)
    values, lengths = rng.random((batch, rewards)), rng.integers(1, 4096, batch)
    copied = np.empty((batch, rewards + 1, 4), dtype=np.float32)
    gather = seconds(lambda: np.copyto(copied, log._recent[rng.integers(0, size, batch)]), 20)
    for name, rows in (("512 groups of 16", groups), ("8192 prompts of 1", scattered)):
        took = seconds(partial(log.observe, rows, values, length_N=lengths), 20)
        print(f"| update, {name} | {took * 1e3:.1f} ms ({took / gather:.0f}x a gather of its rows) |")
    drawn = seconds(lambda: log.stats(scattered, predictor="decayed"), 20)
    print(f"| draw of 8192 prompts' stats | {drawn * 1e3:.1f} ms |")
    print(f"| draw of all stats | {seconds(lambda: log.stats(ids), 2) * 1e3:.0f} ms |")
    print(f"| memory | {memory / size / rewards:.1f} bytes a prompt and reward |")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "history.npz"

        def save() -> None:
            with path.open("wb") as file:
                np.savez(file, **log.state_dict())
                file.flush()
                os.fsync(file.fileno())

        saved = seconds(save, 3, time.perf_counter)
        content = path.stat().st_size

        def write() -> None:
            with path.with_suffix(".raw").open("wb") as file:
                file.write(bytes(content))
                file.flush()
                os.fsync(file.fileno())

        raw = seconds(write, 3, time.perf_counter)
        print(f"| state_dict | {seconds(log.state_dict, 3) * 1e3:.0f} ms |")
        print(
            f"| saved with fsync, {content / 1e6:.0f} MB | {saved:.2f} s ({saved / raw:.1f}x writing as many bytes) |"
        )
        with np.load(path) as file:
            state = dict(file)
        loaded = seconds(lambda: PromptHistory(log.rewards).load_state_dict(state), 2)
        print(f"| load_state_dict | {loaded:.2f} s |")


if __name__ == "__main__":
    allocation()
    history()
