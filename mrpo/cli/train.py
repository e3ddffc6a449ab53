"""``mrpo train recipe=NAME [key=value …]``: train a recipe, with Hydra overrides."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from mrpo.checkpoint.manifest import CheckpointError
from mrpo.checkpoint.storage import open_storage
from mrpo.config.check import check_files
from mrpo.config.load import load_run_config, prepared_folder
from mrpo.config.recipes import Recipe
from mrpo.config.run import RunConfig
from mrpo.config.verl import to_verl
from mrpo.driver.interruption import BAD_INPUT, DONE, FAILED, REQUEUE, Interruption
from mrpo.errors import ConfigError
from mrpo.observe.live import LiveDisplay
from mrpo.record.logs import root_cause
from mrpo.record.phase import Phase
from mrpo.record.run_folder import RunFolder

USAGE = """usage: mrpo train recipe=NAME [key=value ...]

  mrpo train recipe=quickstart
  mrpo train recipe=quickstart algorithm.estimator=grpo trainer.total_training_steps=20
"""


def main(argv: list[str]) -> int:
    """Exit codes: see ``mrpo.driver.interruption``."""
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE, end="")
        return DONE if argv else BAD_INPUT
    config, recipe = load_run_config(argv)
    prepared = prepared_folder(recipe, config.prepare, config.seed)
    check_files(config, recipe, prepared)
    device = device_of(config)
    verl = to_verl(config, recipe.folder, Path("run"), device)  # refuse what verl would before making a folder
    if config.checkpoint.folder is not None:
        open_storage(config.checkpoint.folder, Path("run"))  # likewise
    interrupt = config.interrupt
    interruption = Interruption(interrupt.grace, interrupt.wall_clock, interrupt.slurm_margin)
    folder = _folder(config, recipe)
    verl = to_verl(config, recipe.folder, folder.path.resolve(), device)
    console = Console()
    console.print(f"run folder: {folder.path}", highlight=False)
    with folder.claim(), interruption, LiveDisplay(folder, console) as display:
        display.skip_history()
        code, message = _run(config, recipe, verl, folder, prepared, interruption, display)
    if folder.metrics_file.exists():
        console.print(_report(folder), highlight=False)
    if message:
        print(message, file=sys.stderr)
    return code


def _run(
    config: RunConfig,
    recipe: Recipe,
    verl: DictConfig,
    folder: RunFolder,
    prepared: Path,
    interruption: Interruption,
    display: LiveDisplay,
) -> tuple[int, str]:
    from mrpo.driver.attempt import RunFailed  # imports Ray, which a refused config doesn't wait for
    from mrpo.driver.supervise import train

    try:
        if config.prepare is not None and not prepared.exists():
            prepare(recipe, config.prepare, config.seed, prepared, folder, display)
        end = train(config, recipe.folder, verl, folder, interruption, display.poll)
    except RunFailed as error:
        return FAILED, f"mrpo train: {root_cause(str(error))}\nlogs: {folder.logs}"
    except CheckpointError as error:
        folder.event(Phase.FAILED, detail=str(error).splitlines()[0])
        return FAILED, f"mrpo train: {error}"
    if end == Phase.STOPPED:
        return REQUEUE, f"mrpo train: stopped, {folder.events()[-1]['detail']}. The same command goes on."
    return DONE, ""


def _report(folder: RunFolder) -> str:
    """Draw the run; that a picture failed must not fail a run that didn't."""
    from mrpo.observe.report import write_report

    try:
        return "report: " + " ".join(map(str, write_report(folder)))
    except Exception as error:
        return f"no report ({type(error).__name__}: {error}); try again: mrpo report {folder.path}"


def device_of(config: RunConfig) -> str:
    """verl's name of the device to run on. Raises ConfigError if GPUs are asked for and there are none."""
    found = any(Path("/dev").glob("nvidia[0-9]*")) or bool(os.environ.get("RAY_ADDRESS"))
    if config.trainer.device == "gpu" and not found:
        raise ConfigError("trainer.device: given gpu, but this machine has none. Allowed here: cpu, auto.")
    return "cpu" if config.trainer.device == "cpu" or not found else "cuda"


def _folder(config: RunConfig, recipe: Recipe) -> RunFolder:
    """The run's folder: a new one, or the one of the run that this command goes on with."""
    if config.run_dir is None:
        return RunFolder.create(recipe.name, config.as_yaml())
    folder = RunFolder(config.run_dir)
    new = not folder.path.exists() or not any(folder.path.iterdir())
    if not new and not folder.config.is_file():
        raise ConfigError(f"run_dir: {folder.path} holds something else than a run. Allowed: a run's or a new folder.")
    for part in (folder.rollouts, folder.logs, folder.checkpoints):
        part.mkdir(parents=True, exist_ok=True)
    if new:
        folder.config.write_text(config.as_yaml(), encoding="utf-8")
    return folder


def prepare(
    recipe: Recipe, prepare_command: str, seed: int, out: Path, folder: RunFolder, display: LiveDisplay
) -> None:
    """Run the recipe's ``prepare`` into ``out``, which appears only when it is complete.

    Raises:
        RunFailed: the script failed; the message is the end of what it printed.
    """
    from mrpo.driver.attempt import RunFailed

    folder.event(Phase.PREPARE)
    display.poll()
    partial = out.with_name(f"{out.name}.{os.getpid()}.partial")
    partial.mkdir(parents=True)
    log = folder.logs / "prepare.log"
    script, *arguments = shlex.split(prepare_command)
    command = [sys.executable, str(recipe.folder / script), *arguments, "--out", str(partial), "--seed", str(seed)]
    with open(log, "wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        try:
            while process.poll() is None:
                try:
                    process.wait(0.25)
                except subprocess.TimeoutExpired:
                    display.poll()
        finally:
            process.kill()
    if process.returncode != 0:
        folder.event(Phase.FAILED, detail=f"{script} exited with {process.returncode}")
        raise RunFailed(log.read_text(errors="replace")[-4000:] + f"\n{script} exited with code {process.returncode}")
    if out.exists():  # another run prepared it meanwhile
        return
    partial.rename(out)
