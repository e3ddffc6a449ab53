"""``mrpo train recipe=NAME [key=value …]``: train a recipe, with Hydra overrides."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import yaml
from rich.console import Console

from mrpo.config.check import check_files
from mrpo.config.load import load_run_config, prepared_folder
from mrpo.config.recipes import Recipe
from mrpo.config.run import RunConfig
from mrpo.controller.verl_config import to_verl
from mrpo.errors import ConfigError
from mrpo.observe.live import LiveDisplay
from mrpo.observe.logs import root_cause
from mrpo.observe.run_folder import FAILED, RunFolder

USAGE = """usage: mrpo train recipe=NAME [key=value ...]

  mrpo train recipe=quickstart
  mrpo train recipe=quickstart algorithm.estimator=grpo trainer.total_training_steps=20
"""


def main(argv: list[str]) -> int:
    """Exit codes: 0 done, 1 the run failed, 2 the configuration is wrong (nothing was started), 130 interrupted."""
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0 if argv else 2
    config, recipe = load_run_config(argv)
    prepared = prepared_folder(recipe, config.seed)
    check_files(config, recipe, prepared)
    device = device_of(config)
    verl = to_verl(config, recipe.folder, Path("run"), device)  # refuse what verl would before making a folder
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    folder = _folder(config, recipe, text)
    verl = to_verl(config, recipe.folder, folder.path.resolve(), device)
    console = Console()
    console.print(f"run folder: {folder.path}", highlight=False)
    with LiveDisplay(folder, console) as display:
        code, message = _run(config, recipe, verl, folder, prepared, display)
    if folder.metrics_file.exists():
        console.print(_report(folder), highlight=False)
    if message:
        print(message, file=sys.stderr)
    return code


def _run(
    config: RunConfig, recipe: Recipe, verl: object, folder: RunFolder, prepared: Path, display: LiveDisplay
) -> tuple[int, str]:
    from mrpo.controller.launch import RunFailed, launch  # imports Ray, which a refused config doesn't wait for

    try:
        if config.prepare is not None and not prepared.exists():
            prepare(recipe, config.prepare, config.seed, prepared, folder, display)
        launch(config, verl, folder, display.poll)  # type: ignore[arg-type]
    except RunFailed as error:
        return 1, f"mrpo train: {root_cause(str(error))}\nlogs: {folder.logs}"
    except KeyboardInterrupt:
        return 130, "mrpo train: interrupted"
    return 0, ""


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


def _folder(config: RunConfig, recipe: Recipe, text: str) -> RunFolder:
    if config.run_dir is None:
        return RunFolder.create(recipe.name, text)
    folder = RunFolder(config.run_dir)
    if folder.path.exists() and any(folder.path.iterdir()):
        raise ConfigError(f"run_dir: {folder.path} is not empty. Allowed: a new or empty folder.")
    for part in (folder.rollouts, folder.logs, folder.checkpoints):
        part.mkdir(parents=True, exist_ok=True)
    folder.config.write_text(text, encoding="utf-8")
    return folder


def prepare(recipe: Recipe, script: str, seed: int, out: Path, folder: RunFolder, display: LiveDisplay) -> None:
    """Run the recipe's prepare script into ``out``, which appears only when it is complete.

    Raises:
        RunFailed: the script failed; the message is the end of what it printed.
    """
    from mrpo.controller.launch import RunFailed

    folder.event("prepare model and data")
    display.poll()
    partial = out.with_name(f"{out.name}.{os.getpid()}.partial")
    partial.mkdir(parents=True)
    log = folder.logs / "prepare.log"
    command = [sys.executable, str(recipe.folder / script), "--out", str(partial), "--seed", str(seed)]
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
        folder.event(FAILED, detail=f"{script} exited with {process.returncode}")
        raise RunFailed(log.read_text(errors="replace")[-4000:] + f"\n{script} exited with code {process.returncode}")
    if out.exists():  # another run prepared it meanwhile
        return
    partial.rename(out)
