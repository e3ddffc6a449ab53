"""What every scheduler is told of a run: its name, its command, and the run folder that makes the command resumable."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path

from mrpo.config.check import check_files
from mrpo.config.load import load_run_config, prepared_folder
from mrpo.config.recipes import Recipe
from mrpo.config.run import RunConfig
from mrpo.config.verl import to_verl
from mrpo.errors import ConfigError

MOST_SLUG_LETTERS = 31
"""With the time it makes 47 letters, the most that KubeRay takes for a RayJob's name."""


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

    @property
    def recipe_given(self) -> str:
        """The value of ``recipe=`` in the command."""
        given = [text.partition("=")[2] for text in self.overrides if text.partition("=")[0] == "recipe"]
        return given[-1].strip("'\"")

    def command(self, *more: str) -> list[str]:
        """The training command as arguments; ``more`` are overrides that the scheduler adds."""
        return ["mrpo", "train", *self.overrides, *more, override("run_dir", self.run_dir)]


def make_job(overrides: list[str], runs: Path, volume: Path | None = None) -> Job:
    """Load and check a run as ``mrpo train`` does.

    Args:
        runs: where run folders lie; the run gets a new one there if it gives no ``run_dir``.
        volume: a folder that only the cluster sees, so that files below it can't be looked for here.

    Raises:
        ConfigError: what ``mrpo train`` would refuse.
    """
    config, recipe = load_run_config(overrides)
    check_files(_without_files_below(config, volume), recipe, prepared_folder(recipe, config.prepare, config.seed))
    to_verl(config, recipe.folder, Path("run"), "cpu" if config.trainer.device == "cpu" else "cuda")
    slug = re.sub(r"[^a-z0-9]+", "-", recipe.name.lower()).strip("-")[:MOST_SLUG_LETTERS]
    label = f"{slug}-{time.strftime('%Y%m%d-%H%M%S')}"
    run_dir = config.run_dir or str(runs / label)
    kept = tuple(given for given in overrides if given.lstrip("+").partition("=")[0] != "run_dir")
    return Job(slug, label, kept, run_dir, config, recipe)


def _without_files_below(config: RunConfig, volume: Path | None) -> RunConfig:
    if volume is None:
        return config

    def here(path: str) -> bool:
        return not Path(path).is_relative_to(volume)

    data = {name: [file for file in getattr(config.data, name) if here(file)] for name in ("train_files", "val_files")}
    update: dict[str, object] = {"data": config.data.model_copy(update=data)}
    if not here(config.model.path):
        update["model"] = config.model.model_copy(update={"path": "on-the-volume"})
    return config.model_copy(update=update)


def override(key: str, value: str) -> str:
    """``key=value`` in Hydra's grammar, quoted where the value has characters that mean something to it."""
    if re.fullmatch(r"[\w./-]+", value):
        return f"{key}={value}"
    return f"{key}='{value}'" if "'" not in value else f'{key}="{value}"'


def check_grace(field: str, given: float, config: RunConfig) -> None:
    """The cluster must leave the run the time that it may take to save."""
    grace = config.interrupt.grace
    if given <= grace:
        raise ConfigError(f"{field}: given {given:g}, allowed: more than interrupt.grace ({grace:g} s).")
