"""What every scheduler needs of a run: its name, its command, and the run folder that makes the command resumable."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path

from mrpo.config.checked_run import CheckedRun
from mrpo.config.device import device_here, device_on
from mrpo.config.overrides import override, take
from mrpo.config.placement import Groups
from mrpo.config.recipes import Recipe
from mrpo.config.run import RunConfig
from mrpo.errors import ConfigError

MAX_SLUG_LETTERS = 31
"""With the time it makes 47 letters, the maximum that KubeRay takes for a RayJob's name."""


ARRAY_TASK = "ARRAY_TASK"
"""Stands in a command for the number of a job array's task, until the job runs."""


@dataclass(frozen=True)
class Job:
    """One run, checked. ``overrides`` are those given but for ``run_dir``, which is decided once for all attempts."""

    recipe_slug: str
    """The recipe's name in small letters, digits and dashes."""
    label: str
    """That and the time: a name that no other run has."""
    overrides: tuple[str, ...]
    run_dir: str
    config: RunConfig
    recipe: Recipe
    notes: tuple[str, ...] = ()
    """As of ``CheckedRun``."""

    @property
    def recipe_given(self) -> str:
        """The value of ``recipe=`` in the command."""
        return str(take(self.overrides, "recipe")[0]["recipe"])

    def command(self, *more: str) -> list[str]:
        """The training command as arguments; ``more`` are overrides that the scheduler adds."""
        return ["mrpo", "train", *self.overrides, *more, override("run_dir", self.run_dir)]


def make_job(overrides: list[str], runs: Path, groups: Groups | None = None, volume: Path | None = None) -> Job:
    """Load and check a run as ``mrpo train`` does.

    Args:
        runs: where run folders lie; the run gets a new one there if it gives no ``run_dir``.
        groups: the cluster's nodes by role; None: this machine.
        volume: a folder that only the cluster sees, so that files below it can't be looked for here.

    Raises:
        ConfigError: what ``mrpo train`` would refuse.
    """
    run = CheckedRun.load(overrides, device_here if groups is None else lambda c: device_on(c, groups), volume)
    slug = re.sub(r"[^a-z0-9]+", "-", run.recipe.name.lower()).strip("-")[:MAX_SLUG_LETTERS]
    label = f"{slug}-{time.strftime('%Y%m%d-%H%M%S')}"
    run_dir = run.config.run_dir or str(runs / label)
    _, kept = take(overrides, "run_dir")
    return Job(slug, label, tuple(kept), run_dir, run.config, run.recipe, run.notes)


def check_grace(field: str, given: float, config: RunConfig) -> None:
    """The cluster must leave the run the time that it may take to save."""
    grace = config.interrupt.grace
    if given <= grace:
        raise ConfigError(f"{field}: given {given:g}, allowed: more than interrupt.grace ({grace:g} s).")
