"""What ``mrpo train`` does. It is loaded when a run begins, so that help and completion needn't wait for it."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console

from mrpo.checkpoint.manifest import CheckpointError
from mrpo.checkpoint.storage import open_storage
from mrpo.cli._app import show_notes
from mrpo.config.checked_run import CheckedRun
from mrpo.config.data_files import is_there
from mrpo.data.cached import job_of, make_rows
from mrpo.data.sources import require_rewards
from mrpo.driver.interruption import Interruption
from mrpo.driver.machine import require_machine
from mrpo.errors import ConfigError, MrpoError, RunFailed, usable
from mrpo.exit_code import ExitCode
from mrpo.export.error import ExportError
from mrpo.observe.live import LiveDisplay
from mrpo.record.phase import Phase
from mrpo.record.run_folder import LATEST, RunFolder


def train(overrides: list[str]) -> ExitCode:
    """Check, run and report."""
    run = CheckedRun.load(overrides)
    show_notes(run.notes)
    if run.config.checkpoint.folder is not None:
        open_storage(run.config.checkpoint.folder, Path("run"))  # refuse a bad one before making a run folder
    require_machine(run.config)
    _check_rows(run)
    interrupt = run.config.interrupt
    interruption = Interruption(interrupt.grace, interrupt.wall_clock, interrupt.slurm_margin)
    with usable("run_dir", run.config.run_dir or "runs"):
        folder = _folder(run)
    console = Console()
    console.print(f"run folder: {folder.path}", highlight=False)
    end = ""
    failure: MrpoError | None = None
    with folder.claim(), interruption, LiveDisplay(folder, console) as display:
        display.skip_history()
        # It imports Ray, which a refused config doesn't wait for.
        from mrpo.driver import supervise

        try:
            end = supervise.train(run, folder, interruption, display.poll)
        except (RunFailed, ExportError) as error:
            failure = error
        except CheckpointError as error:
            folder.event(Phase.FAILED, detail=str(error).splitlines()[0])
            failure = error
    if folder.metrics_file.exists():
        console.print(_report(folder), highlight=False)
    if failure is not None:
        raise failure
    if end == Phase.STOPPED:
        detail = folder.events()[-1]["detail"]
        print(f"mrpo: stopped, {detail}. The same command goes on.", file=sys.stderr)
        return ExitCode.REQUEUE
    return ExitCode.DONE


def _check_rows(run: CheckedRun) -> None:
    """Refuse rows that can't be used before making a run folder, where they are there already."""
    data, model = run.config.data, Path(run.config.model.path).expanduser()
    if all(map(is_there, (*data.train_files, *data.val_files))) and model.exists():
        require_rewards(run.config, make_rows(job_of(run.config, run.verl_config(Path("run"))))[1])


def _report(folder: RunFolder) -> str:
    """Draw the run; that a picture failed must not fail a run that didn't."""
    from mrpo.observe.report import write_report

    try:
        return "report: " + " ".join(map(str, write_report(folder)))
    except Exception as error:
        return f"no report ({type(error).__name__}: {error}); try again: mrpo report {folder.path}"


def _folder(run: CheckedRun) -> RunFolder:
    """The run's folder: a new one, or the one of the run that this command goes on with."""
    config = run.config
    if config.run_dir is None:
        return RunFolder.create(run.recipe.name, config.as_yaml())
    folder = RunFolder(config.run_dir)
    if folder.path.absolute() == Path("runs", LATEST).absolute() and not folder.path.exists():
        raise ConfigError(f"run_dir: given {folder.path}, the place of the link to the newest run. Allowed: another.")
    new = not folder.path.exists() or not any(folder.path.iterdir())
    if not new and not folder.config.is_file():
        raise ConfigError(f"run_dir: {folder.path} holds something else than a run. Allowed: a run's or a new folder.")
    for part in (folder.rollouts, folder.logs, folder.checkpoints):
        part.mkdir(parents=True, exist_ok=True)
    if new:
        folder.config.write_text(config.as_yaml(), encoding="utf-8")
    return folder
