"""Load and check a run, once and for every command that begins with one: train, plan, evaluate and launch."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from omegaconf import DictConfig

from mrpo.config.check import algorithm_notes, check_files, reward_notes
from mrpo.config.device import Device, device_here
from mrpo.config.load import load_run_config, load_saved_config, prepared_folder
from mrpo.config.positions import require_positions
from mrpo.config.recipes import Recipe, find_recipe
from mrpo.config.run import RunConfig
from mrpo.config.trackers import require_installed
from mrpo.config.verl import to_verl


@dataclass(frozen=True)
class CheckedRun:
    """A run that nothing speaks against, as far as that can be known before it starts."""

    config: RunConfig
    recipe: Recipe
    prepared: Path
    """Where the recipe's ``prepare`` puts model and data; it need not exist yet."""
    device: Device
    notes: tuple[str, ...] = ()
    """What a user should know: options of another method that were left out, and what rewards don't hold here."""

    @classmethod
    def load(
        cls,
        overrides: Sequence[str],
        choose_device: Callable[[RunConfig], Device] = device_here,
        volume: Path | None = None,
    ) -> CheckedRun:
        """The run that a command line describes.

        Args:
            overrides: ``recipe=NAME key=value …``.
            choose_device: where the run will compute.
            volume: a folder that only a cluster sees, so that files below it can't be looked for here.

        Raises:
            ConfigError: one message for what is wrong, before anything was started or written.

        >>> CheckedRun.load(["recipe=quickstart", "trainer.total_training_steps=2"]).recipe.name
        'quickstart'
        """
        notes: list[str] = []
        config, recipe = load_run_config(overrides, notes.append)
        here = choose_device is device_here
        return cls._checked(config, recipe, choose_device(config), notes, volume, here)

    @classmethod
    def load_saved(cls, file: Path, overrides: Sequence[str]) -> CheckedRun:
        """The run of a run folder's ``config.yaml``, with overrides, to be used on this machine. Raises ConfigError."""
        notes: list[str] = []
        config = load_saved_config(file, overrides, notes.append)
        if config.trainer.ray == "join" and not os.environ.get("RAY_ADDRESS"):  # a cluster's run, looked at elsewhere
            config = config.model_copy(update={"trainer": config.trainer.model_copy(update={"ray": "own"})})
        return cls._checked(config, find_recipe(config.recipe), device_here(config), notes, None, here=True)

    @classmethod
    def _checked(
        cls, config: RunConfig, recipe: Recipe, device: Device, notes: list[str], volume: Path | None, here: bool
    ) -> CheckedRun:
        if here and config.trainer.ray == "own" and (address := os.environ.get("RAY_ADDRESS")):
            notes = [
                *notes,
                f"RAY_ADDRESS is {address}, but this run starts a Ray of its own; trainer.ray=join joins that",
            ]
        run = cls(config, recipe, prepared_folder(recipe, config.prepare, config.seed), device, tuple(notes))
        check_files(_without_files_below(config, volume), recipe, run.prepared)
        require_positions(config)
        if here:
            require_installed(config.trainer.logger)
        run = replace(run, notes=(*notes, *algorithm_notes(config), *reward_notes(config, here)))
        run.verl_config(Path("run"))  # refuses what verl would
        return run

    def verl_config(self, run_dir: Path) -> DictConfig:
        """verl's configuration of this run in ``run_dir``. Raises ConfigError for a key that verl doesn't have."""
        return to_verl(self.config, self.recipe.folder, run_dir, self.device.verl_name)


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
