"""The quickstart on one device: its rewards rise, and its engine samples from the weights that its rank trains."""

from __future__ import annotations

from tests.gpu.part import Context
from tests.gpu.runs import QUICK_START, REWARDS, agreement, rises, speed, train, typed

STEPS, LEAST_RISE = 20, 0.05
LARGEST_MEAN = {"float32": 1e-3, "bfloat16": 0.03}
"""As ``rollout.max_probs_diff`` has them by default."""


def float32(context: Context) -> None:
    _quickstart(context, "float32")


def bfloat16(context: Context) -> None:
    _quickstart(context, "bfloat16")


def _quickstart(context: Context, dtype: str) -> None:
    steps = context.sized(STEPS, 2)
    overrides = [*typed(dtype), *QUICK_START, f"trainer.total_training_steps={steps}"]
    folder = train(context, f"quickstart_{dtype}", overrides)
    records = folder.metrics()
    for name in REWARDS:
        first, last = rises(records, name)
        context.report.figure(f"{name}, first to last steps", f"{first:.3f} to {last:.3f}")
        context.report.require(f"{name} rises by {LEAST_RISE}", not context.on_gpu or last - first >= LEAST_RISE)
    found = agreement(records)
    context.report.all({**found, **speed(folder)})
    mean = found["|engine - trainer|, mean"]
    context.report.require(f"their mean difference is below {LARGEST_MEAN[dtype]}", float(mean) < LARGEST_MEAN[dtype])
    context.report.require("every update has a gradient", all(record["train/grad_norm"] > 0 for record in records))
