"""``mrpo evaluate RUN [step=N] [key=value …]``: score a run's checkpoint on validation data, by reward and source."""

from __future__ import annotations

import json
import sys
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from mrpo.checkpoint.store import CheckpointStore, Found
from mrpo.cli.train import device_of
from mrpo.config.check import check_files
from mrpo.config.controller import Attempt, begin
from mrpo.config.load import prepared_folder, validate
from mrpo.config.recipes import Recipe, find_recipe
from mrpo.config.run import RunConfig
from mrpo.config.verl import to_verl
from mrpo.driver.interruption import BAD_INPUT, DONE, FAILED, Interruption
from mrpo.errors import ConfigError
from mrpo.observe.live import LiveDisplay
from mrpo.record.logs import root_cause
from mrpo.record.run_folder import RunFolder

USAGE = """usage: mrpo evaluate RUN [step=N] [key=value ...]

  mrpo evaluate latest                                             the newest checkpoint, on the recipe's data.val_files
  mrpo evaluate runs/mine step=200 data.val_files=[aime.parquet]
  mrpo evaluate runs/mine verl.actor_rollout_ref.rollout.val_kwargs='{n: 16, do_sample: true, temperature: 0.6}'
"""


def main(argv: list[str]) -> int:
    """Exit codes as of ``mrpo train``. The numbers are also in ``RUN/evaluations/step-N/evaluation.json``, each
    response with its scores in its ``validation`` folder."""
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE, end="")
        return DONE if argv else BAD_INPUT
    run = RunFolder.find(argv[0])
    step, config = _configured(run, argv[1:])
    recipe = find_recipe(config.recipe)
    check_files(config, recipe, prepared_folder(recipe, config.prepare, config.seed))
    found = _checkpoint(run, config, step)
    folder = RunFolder(run.path / "evaluations" / f"step-{found.step}")
    folder.rollouts.mkdir(parents=True, exist_ok=True)
    folder.logs.mkdir(exist_ok=True)
    folder.config.write_text(config.as_yaml(), encoding="utf-8")
    verl = _verl_config(config, recipe, folder, found)
    console = Console()
    interruption = Interruption(config.interrupt.grace)
    with folder.claim(), interruption, LiveDisplay(folder, console) as display:
        display.skip_history()
        from mrpo.driver.attempt import RunFailed, run_attempt  # imports Ray, which a refused config doesn't wait for

        try:
            run_attempt(config, verl, folder, interruption, display.poll)
        except RunFailed as error:
            print(f"mrpo evaluate: {root_cause(str(error))}\nlogs: {folder.logs}", file=sys.stderr)
            return FAILED
    values = {name: value for name, value in folder.metrics()[-1].items() if name.startswith("validation/")}
    (folder.path / "evaluation.json").write_text(json.dumps({"step": found.step, **values}, indent=1), encoding="utf-8")
    console.print(_table(values, found.step))
    return DONE


def _configured(run: RunFolder, overrides: list[str]) -> tuple[int | None, RunConfig]:
    """The run's own config with the overrides, and the step asked for."""
    if not run.config.is_file():
        raise ConfigError(f"run: {run.path} holds no config.yaml. Allowed: a run's folder.")
    if bad := [text for text in overrides if "=" not in text]:
        raise ConfigError(f"override: given {bad[0]!r}, allowed: key=value.")
    content = OmegaConf.merge(yaml.safe_load(run.config.read_text(encoding="utf-8")), OmegaConf.from_dotlist(overrides))
    values: Any = OmegaConf.to_container(content)
    step = values.pop("step", None)
    if step is not None and not isinstance(step, int):
        raise ConfigError(f"step: given {step!r}, allowed: the number of a checkpoint's step.")
    values["checkpoint"] = {**values.get("checkpoint", {}), "every": -1}
    return step, validate(values)


def _checkpoint(run: RunFolder, config: RunConfig, step: int | None) -> Found:
    store = CheckpointStore(config.checkpoint.folder or run.checkpoints, run.scratch)
    if step is not None:
        return store.load(step)
    found = store.newest_whole().found
    if found is None:
        raise ConfigError(f"run: {store.root} has no checkpoint. Allowed: a run that saved one (checkpoint.every).")
    return found


def _verl_config(config: RunConfig, recipe: Recipe, folder: RunFolder, found: Found) -> DictConfig:
    verl = to_verl(config, recipe.folder, folder.path.resolve(), device_of(config))
    attempt = Attempt(start_step=found.step, folder=str(found.folder), validate_first=True, validate_only=True)
    begin(verl, attempt)
    return verl


def _table(values: dict[str, float], step: int) -> Table:
    """A row a data source and reward; verl's names are kind/source/reward/statistic."""
    table = Table("data", "reward", "statistic", "value", title=f"checkpoint of step {step}")
    for name, value in sorted(values.items()):
        source, _, rest = name.removeprefix("validation/").partition("/")[2].partition("/")
        reward, _, statistic = rest.rpartition("/")
        table.add_row(source, reward, statistic, f"{value:.4g}")
    return table
