"""GDPO from rewards to the tokens' advantages: mrpo beside verl's own function and beside the floor, in one run.

    python tests/benchmarks/advantages/speed.py                      # the sizes that fit in 6 GiB
    python tests/benchmarks/advantages/speed.py --rows 8192 --tokens 512 --rewards 4

Each measurement is a process of its own, so that a peak of memory is its own. Responses have 1 to T tokens. mrpo
writes an advantage for each token there is (S in all), as a step does; verl the (N,T) tensor, padding included. The
floor reads the rewards once and writes the S values once; nothing that answers with them can do less. Seconds are the
CPU's, which other processes don't change. Errors are against float64 numpy. Shapes: N rollouts in groups of eight, K
rewards, T tokens.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

GROUP = 8
IMPLEMENTATIONS = ("floor", "mrpo", "verl")
COLUMNS = (
    *("N", "T", "K", "mrpo s", "verl s", "verl/mrpo", "mrpo/floor"),
    *("MiB beyond output: mrpo", "verl", "verl/mrpo", "largest error: mrpo", "verl"),
)
GIB = 2**30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1024, 8192, 65536])
    parser.add_argument("--tokens", type=int, nargs="+", default=[512, 4096])
    parser.add_argument("--rewards", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--memory-gib", type=float, default=6.0, help="skip what would need more")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.rows[0], options.tokens[0], options.rewards[0])))
        return
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for rows in options.rows:
        for tokens in options.tokens:
            for rewards in options.rewards:
                print(_row(rows, tokens, rewards, options.memory_gib), flush=True)


def _row(rows: int, tokens: int, rewards: int, memory_gib: float) -> str:
    told = {
        name: _in_a_process(name, rows, tokens, rewards)
        for name in IMPLEMENTATIONS
        if _needed_gib(name, rows, tokens, rewards) <= memory_gib
    }
    floor, ours, theirs = (told.get(name) for name in IMPLEMENTATIONS)
    if floor is None or ours is None:
        return f"| {rows} | {tokens} | {rewards} | would need more than {memory_gib} GiB |"
    cells = [f"{rows:6}", f"{tokens:4}", str(rewards), f"{ours['seconds']:.4f}"]
    if theirs is None:
        needed = _needed_gib("verl", rows, tokens, rewards)
        cells += [f"not run: about {needed:.0f} GiB", "–", f"{ours['seconds'] / floor['seconds']:.1f}"]
        cells += [f"{ours['extra_mib']:.0f}", "–", "–", f"{ours['error']:.0e}", "–"]
    else:
        cells += [f"{theirs['seconds']:.3f}", f"{theirs['seconds'] / ours['seconds']:.0f}"]
        cells += [f"{ours['seconds'] / floor['seconds']:.1f}", f"{ours['extra_mib']:.0f}", f"{theirs['extra_mib']:.0f}"]
        cells += [
            f"{theirs['extra_mib'] / max(ours['extra_mib'], 1):.0f}",
            f"{ours['error']:.0e}",
            f"{theirs['error']:.0e}",
        ]
    return "| " + " | ".join(cells) + " |"


def _needed_gib(name: str, rows: int, tokens: int, rewards: int) -> float:
    """The output; for verl also the int64 mask, one dense tensor per reward and a few temporaries."""
    dense = {"verl": rewards + 9}.get(name, 1)
    return dense * rows * tokens * 4 / GIB + 1


def _in_a_process(name: str, rows: int, tokens: int, rewards: int) -> dict[str, float]:
    sizes = ["--rows", rows, "--tokens", tokens, "--rewards", rewards]
    command = [sys.executable, __file__, "--measure", name, *map(str, sizes)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def measure(name: str, rows: int, tokens: int, rewards: int) -> dict[str, float]:
    """Median seconds of three calls (one for verl, whose first is as slow as its last), memory, and largest error."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    rewards_NK = torch.rand(rows, rewards, generator=generator)
    lengths_N = torch.randint(1, tokens + 1, (rows,), generator=generator)
    ids_N = torch.arange(rows) // GROUP
    make = {"floor": _floor, "mrpo": _mrpo, "verl": _verl}[name]
    call = make(rewards_NK, ids_N, lengths_N, tokens)
    make(rewards_NK[:GROUP], ids_N[:GROUP], lengths_N[:GROUP], tokens)()
    seconds = []
    Path("/proc/self/clear_refs").write_text("5")
    before = _status_kib("VmRSS")
    for _ in range(1 if name == "verl" else 3):
        start = time.process_time()
        result = call()
        seconds.append(time.process_time() - start)
        if len(seconds) == 1:
            peak = _status_kib("VmHWM")
        output_mib = result.nbytes / 2**20
        first_N = result[:, 0] if name == "verl" else result[lengths_N.cumsum(0) - lengths_N]
        advantages_N = first_N.double().numpy().copy()
        del result
    extra_mib = (peak - before) / 1024 - output_mib
    error = 0.0 if name == "floor" else float(np.abs(advantages_N - _oracle(rewards_NK, lengths_N)).max())
    return {"seconds": sorted(seconds)[len(seconds) // 2], "extra_mib": extra_mib, "error": error}


def _status_kib(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1])


def _floor(rewards_NK: Tensor, ids_N: Tensor, lengths_N: Tensor, tokens: int) -> Callable[[], Tensor]:
    def call() -> Tensor:
        return torch.from_numpy(np.repeat(rewards_NK.sum(dim=1).numpy(), lengths_N.numpy()))

    return call


def _mrpo(rewards_NK: Tensor, ids_N: Tensor, lengths_N: Tensor, tokens: int) -> Callable[[], Tensor]:
    from mrpo.advantages import compute_advantages, write_ragged

    config = {"estimator": "gdpo", "preset": "verl", "names": [f"r{k}" for k in range(rewards_NK.shape[1])]}

    def call() -> Tensor:
        result = compute_advantages(rewards_NK, ids_N, config, lengths_N=lengths_N)
        return write_ragged(result.advantages_N, None, lengths_N)

    return call


def _verl(rewards_NK: Tensor, ids_N: Tensor, lengths_N: Tensor, tokens: int) -> Callable[[], Tensor]:
    from verl.trainer.ppo.core_algos import compute_gdpo_outcome_advantage

    mask_NT = (torch.arange(tokens) < lengths_N[:, None]).to(torch.int64)
    names = [f"r{k}" for k in range(rewards_NK.shape[1])]
    prompts_N1 = torch.ones(len(ids_N), 1, dtype=torch.int64)
    attention_mask = torch.cat((prompts_N1, mask_NT), dim=1)
    token_rewards_NT = torch.zeros(1).expand(mask_NT.shape)  # only its device is read

    def call() -> Tensor:
        advantages_NT, _ = compute_gdpo_outcome_advantage(
            token_level_rewards=token_rewards_NT,
            response_mask=mask_NT,
            index=ids_N.numpy(),
            config={"gdpo_reward_keys": names},
            non_tensor_batch={name: rewards_NK[:, k].numpy() for k, name in enumerate(names)},
            batch={"prompts": prompts_N1, "attention_mask": attention_mask},
        )
        return advantages_NT

    return call


def _oracle(rewards_NK: Tensor, lengths_N: Tensor) -> np.ndarray:
    """verl's GDPO in float64: groups of eight in a row, every response's first token in the mask."""
    grouped = rewards_NK.double().numpy().reshape(-1, GROUP, rewards_NK.shape[1])
    spread = grouped.std(axis=1, ddof=1, keepdims=True) + 1e-6
    summed = ((grouped - grouped.mean(axis=1, keepdims=True)) / spread).sum(axis=2).reshape(-1)
    counts = lengths_N.double().numpy()
    centred = summed - (counts * summed).sum() / counts.sum()
    return centred / np.sqrt((counts * centred**2).sum() / (counts.sum() - 1) + 1e-8)


if __name__ == "__main__":
    main()
