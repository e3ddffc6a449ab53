"""Score a run's checkpoint on validation data.

The newest checkpoint that is whole, or that of step=N, by reward and data source. The numbers are also in
RUN/evaluations/step-N/evaluation.json, each response with its scores in the folder validation beside it.
"""

from __future__ import annotations

import json
from typing import Annotated

import typer
from omegaconf import DictConfig
from rich.console import Console

from mrpo.checkpoint.store import CheckpointStore, Found
from mrpo.cli._app import Changes, examples, new_app, show_notes
from mrpo.cli._complete import complete_run
from mrpo.cli._table import table
from mrpo.config.checked_run import CheckedRun
from mrpo.config.controller import Attempt, begin
from mrpo.config.overrides import take
from mrpo.driver.interruption import Interruption
from mrpo.errors import ConfigError
from mrpo.exit_code import ExitCode
from mrpo.observe.live import LiveDisplay
from mrpo.record.run_folder import RunFolder

app = new_app()


@app.command(
    help=__doc__,
    epilog=examples(
        "mrpo evaluate latest                 # on the recipe's data.val_files",
        "mrpo evaluate runs/mine step=200 data.val_files=[aime.parquet]",
        "mrpo evaluate runs/mine verl.actor_rollout_ref.rollout.val_kwargs='{n: 16, do_sample: true}'",
    ),
)
def evaluate(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run's folder, or its name below runs.", autocompletion=complete_run)
    ],
    changes: Changes = None,
    trust: Annotated[bool, typer.Option("--trust", help="Run the code that somebody else's run folder names.")] = False,
) -> ExitCode:
    evaluated = RunFolder.find(run)
    if not trust:
        evaluated.require_own()
    if not evaluated.config.is_file():
        raise ConfigError(f"run: {evaluated.path} holds no config.yaml. Allowed: a run's folder.")
    given, overrides = take(changes or [], "step")
    step = given.get("step")
    if not isinstance(step, int | None):
        raise ConfigError(f"step: given {step!r}, allowed: the number of a checkpoint's step.")
    checked = CheckedRun.load_saved(evaluated.config, [*overrides, "checkpoint.every=-1"])
    found = _checkpoint(evaluated, checked, step)
    show_notes(checked.notes)
    folder = RunFolder(evaluated.path / "evaluations" / f"step-{found.step}")
    folder.rollouts.mkdir(parents=True, exist_ok=True)
    folder.logs.mkdir(exist_ok=True)
    folder.config.write_text(checked.config.as_yaml(), encoding="utf-8")
    console = Console()
    interruption = Interruption(checked.config.interrupt.grace)
    with folder.claim(), interruption, LiveDisplay(folder, console) as display:
        display.skip_history()
        from mrpo.driver.attempt import run_attempt  # imports Ray, which a refused config doesn't wait for

        run_attempt(checked.config, _verl_config(checked, folder, found), folder, interruption, display.poll)
    values = {name: value for name, value in folder.metrics()[-1].items() if name.startswith("validation/")}
    (folder.path / "evaluation.json").write_text(json.dumps({"step": found.step, **values}, indent=1), encoding="utf-8")
    headings = ("data", "reward", "statistic", "value")
    console.print(table(f"checkpoint of step {found.step}", headings, _rows(values), text_columns=3))
    return ExitCode.DONE


def _checkpoint(run: RunFolder, checked: CheckedRun, step: int | None) -> Found:
    """The checkpoint of this step; the newest one if it is None. Raises ConfigError, CheckpointError."""
    store = CheckpointStore(checked.config.checkpoint.folder or run.checkpoints, run.scratch)
    steps = store.steps()
    if not steps:
        raise ConfigError(f"run: {store.root} has no checkpoint. Allowed: a run that saved one (checkpoint.every).")
    if step is not None and step not in steps:
        raise ConfigError(f"step: given {step}, allowed: the step of a checkpoint ({', '.join(map(str, steps))}).")
    found = store.newest_whole().found if step is None else store.load(step)
    assert found is not None  # there are checkpoints: one is whole, or newest_whole raises
    return found


def _verl_config(checked: CheckedRun, folder: RunFolder, found: Found) -> DictConfig:
    """verl's configuration of one attempt that only validates."""
    verl = checked.verl_config(folder.path.resolve())
    attempt = Attempt(start_step=found.step, folder=str(found.folder), validate_first=True, validate_only=True)
    begin(verl, attempt)
    return verl


def _rows(values: dict[str, float]) -> list[tuple[str, str, str, str]]:
    """A row a data source and reward; verl's names are kind/source/reward/statistic."""
    rows = []
    for name, value in sorted(values.items()):
        source, _, rest = name.removeprefix("validation/").partition("/")[2].partition("/")
        reward, _, statistic = rest.rpartition("/")
        rows.append((source, reward, statistic, f"{value:.4g}"))
    return rows
