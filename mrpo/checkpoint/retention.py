"""Which checkpoints are worth their disk space."""

from __future__ import annotations

from collections.abc import Mapping

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
        name, sign = config.best_metric, {"max": -1, "min": 1}[config.best_mode]
        measured = [step for step in newest_first if name in metrics[step]]
        keep |= set(sorted(measured, key=lambda step: sign * metrics[step][name])[: config.keep_best])
    return keep
