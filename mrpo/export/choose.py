"""Which of a run's checkpoints to export."""

from __future__ import annotations

from typing import Literal

from mrpo.checkpoint.retention import best_first
from mrpo.checkpoint.store import CheckpointStore, Search
from mrpo.config.checkpoint import CheckpointConfig
from mrpo.errors import ConfigError
from mrpo.export.error import ExportError

Which = int | Literal["last", "best"]


def parse_which(given: object) -> Which:
    """The value of ``step=``.

    Raises:
        ConfigError: it is neither a step's number nor ``last`` nor ``best``.

    >>> parse_which(7), parse_which("best")
    (7, 'best')
    """
    if given == "last" or given == "best" or (isinstance(given, int) and not isinstance(given, bool) and given > 0):
        return given
    raise ConfigError(f"step: given {given!r}, allowed: the number of a checkpoint's step, last, or best.")


def choose(store: CheckpointStore, which: Which, config: CheckpointConfig) -> Search:
    """The checkpoint, every byte of it verified; ``skipped`` are newer ones that ``last`` had to pass by.

    Raises:
        ConfigError: there is no such checkpoint, or ``best`` isn't defined in this run.
        CheckpointError: it is damaged.
        ExportError: no checkpoint has the metric that says which one is best.
    """
    steps = store.steps()
    if not steps:
        raise ConfigError(f"run: {store.root} has no checkpoint. Allowed: a run that saved one (checkpoint.final).")
    if which == "last":
        return store.newest_whole()
    if which == "best":
        which = best_step(store, config)
    elif which not in steps:
        numbers = ", ".join(map(str, steps))
        raise ConfigError(f"step: given {which}, allowed: the step of a checkpoint ({numbers}), last, or best.")
    return Search(store.load(which), [])


def best_step(store: CheckpointStore, config: CheckpointConfig) -> int:
    """The step of the best checkpoint, as its manifest says. Raises as ``choose``."""
    if config.best_metric is None:
        raise ConfigError(
            "step: given best, allowed with checkpoint.best_metric in the run's config; else a step, last."
        )
    ranked = best_first(
        {step: manifest.metrics for step, manifest in store.manifests().items()}, config.best_metric, config.best_mode
    )
    if not ranked:
        numbers = ", ".join(map(str, store.steps()))
        raise ExportError(
            f"checkpoint.best_metric: no checkpoint has {config.best_metric} (steps {numbers}): "
            "their steps weren't validated, or it is no name of metrics.jsonl. step=last exports the newest."
        )
    return ranked[0]
