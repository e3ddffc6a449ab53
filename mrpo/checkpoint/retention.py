"""Which checkpoints are worth their disk space."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from mrpo.config.checkpoint import CheckpointConfig


def kept(metrics: Mapping[int, Mapping[str, float]], config: CheckpointConfig) -> set[int]:
    """Steps to keep of these whole checkpoints, given each one's metrics by name.

    The newest ``keep_last``, the multiples of ``keep_every``, and the ``keep_best`` best; of equals, the newer.
    """
    newest_first = sorted(metrics, reverse=True)
    keep = set(newest_first[: config.keep_last])
    if config.keep_every is not None:
        keep |= {step for step in metrics if step % config.keep_every == 0}
    if config.best_metric is not None:
        keep |= set(best_first(metrics, config.best_metric, config.best_mode)[: config.keep_best])
    return keep


def best_first(metrics: Mapping[int, Mapping[str, float]], name: str, mode: Literal["max", "min"]) -> list[int]:
    """Steps whose checkpoint has the metric ``name``, the best one first; of equals, the newer."""
    sign = {"max": -1, "min": 1}[mode]
    measured = [step for step in sorted(metrics, reverse=True) if name in metrics[step]]
    return sorted(measured, key=lambda step: sign * metrics[step][name])
