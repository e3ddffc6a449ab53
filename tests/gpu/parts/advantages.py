"""Advantages of all estimators, and token modulation, on the device against the CPU's: numbers, time and memory.

N rollouts in groups of eight, K rewards, T tokens.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from tests.gpu.part import Context, seconds

GROUP, NAMES = 8, ("a", "b", "c")
ROUNDING = 1e-9
"""Both compute in float64, in another order."""


def advantages(context: Context) -> None:
    """From rewards to the dense advantages of all tokens."""
    import torch

    from mrpo.advantages import write_tokens
    from mrpo.advantages.estimators import ESTIMATORS

    rows, tokens, device = context.sized(65_536, 1024), context.sized(4096, 128), context.device
    generator = torch.Generator().manual_seed(0)
    rewards_NK = torch.rand(rows, len(NAMES), generator=generator, dtype=torch.float64)
    lengths_N = torch.randint(1, tokens + 1, (rows,), generator=generator)
    ids_N = torch.arange(rows) // GROUP
    on_cpu, there = (rewards_NK, ids_N, lengths_N), tuple(t.to(device) for t in (rewards_NK, ids_N, lengths_N))
    settings: dict[str, Any] = {"names": NAMES, "ranges": dict.fromkeys(NAMES, (0.0, 1.0))}
    largest = 0.0
    for name in ESTIMATORS.names():
        of_this = {**settings, "estimator": name}
        _advantages(*(tensor[:64] for tensor in there), settings=of_this)
        took_cpu, expected = seconds("cpu", partial(_advantages, *on_cpu, settings=of_this))
        took, found = seconds(device, partial(_advantages, *there, settings=of_this))
        difference = float((found.advantages_N.cpu() - expected.advantages_N).abs().max())
        context.report.figure(f"{name}: ms, CPU's ms", f"{took * 1e3:.1f}, {took_cpu * 1e3:.1f}")
        context.report.require(f"{name} differs from the CPU's by {difference:.1e} at most", difference < ROUNDING)
        largest = max(largest, difference)
    context.report.figure("largest difference from the CPU's", largest)
    mask_NT = torch.arange(tokens, device=device) < there[2][:, None]
    took, written_NT = seconds(device, lambda: write_tokens(found.advantages_N, mask_NT))
    context.report.figure(f"{rows} x {tokens} tokens written, s", took)
    same = torch.equal(written_NT[:, 0], found.advantages_N.float()) and float((written_NT * ~mask_NT).abs().max()) == 0
    context.report.require("every token has its rollout's advantage, and none beyond it", same)


def _advantages(*batch: Any, settings: dict[str, Any]) -> Any:
    """Of rewards, group ids and lengths."""
    from mrpo.advantages import compute_advantages

    return compute_advantages(batch[0], batch[1], settings, lengths_N=batch[2])


def token_modulation(context: Context) -> None:
    """Over a dense batch: what it adds to the advantages, in time and in memory beyond its arguments and result."""
    import torch

    from mrpo.advantages.token_modulation import modulate_tokens

    rows, tokens, device = context.sized(65_536, 512), context.sized(4096, 128), context.device
    generator = torch.Generator(device).manual_seed(0)
    shape = (rows, tokens)
    advantages_NT = torch.randn((rows, 1), generator=generator, device=device).expand(shape).contiguous()
    entropy_NT = 3 * torch.rand(shape, generator=generator, device=device)
    logp_NT = -5 * torch.rand(shape, generator=generator, device=device)
    old_logp_NT = logp_NT + 0.1 * torch.randn(shape, generator=generator, device=device)
    mask_NT = torch.rand(shape, generator=generator, device=device) < 0.7
    given: Any = (advantages_NT, entropy_NT, logp_NT, old_logp_NT, mask_NT)
    small: Any = [tensor[:8] for tensor in given]
    modulate_tokens(*small)
    if context.on_gpu:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    took, found_NT = seconds(device, lambda: modulate_tokens(*given))
    context.report.figure(f"{rows} x {tokens}, s", took)
    if context.on_gpu:
        extra = torch.cuda.max_memory_allocated() - before - found_NT.nbytes
        context.report.figure("GiB beyond arguments and result", extra / 2**30)
        context.report.figure("the same by an argument's size", extra / advantages_NT.nbytes)
    host: Any = [tensor.cpu() for tensor in given]
    on_cpu, expected_NT = seconds("cpu", lambda: modulate_tokens(*host))
    context.report.figure("CPU's s", on_cpu)
    difference = float((found_NT.cpu() - expected_NT).abs().max())
    context.report.figure("largest difference from the CPU's", difference)
    context.report.require("float32's rounding and no more", difference < 1e-4)
