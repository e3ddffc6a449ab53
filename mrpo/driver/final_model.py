"""The model that a run leaves: ``mrpo export`` in a process of its own, so that this one stays light.

Where there is a fork server the process is forked from it, with torch imported already.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable

from mrpo.checkpoint.store import CheckpointStore
from mrpo.config.run import RunConfig
from mrpo.driver import fork_client
from mrpo.driver.fork_server import die_with_parent
from mrpo.driver.interruption import Interruption
from mrpo.errors import MrpoError
from mrpo.export.choose import best_step
from mrpo.export.error import ExportError
from mrpo.export.origin import step_of_export
from mrpo.export.settings import lora_rank, model_settings
from mrpo.record.phase import Phase
from mrpo.record.run_folder import RunFolder

POLL_SECONDS, REPORT_SECONDS = 0.1, 10.0
PARTIAL = ".model.*.partial"
"""What ``mrpo.export.folder`` names a model that isn't whole."""


def write_model(
    config: RunConfig, folder: RunFolder, store: CheckpointStore, interruption: Interruption, poll: Callable[[], None]
) -> str:
    """Write the model that ``trainer.export`` asks for, unless it is there; all steps are done and saved.

    One of an earlier end of the run, before it was given more steps, is kept beside it as ``model-step-N``.

    Returns:
        DONE; or STOPPED if ``interruption`` asked to end first: then the same command writes it.

    Raises:
        ExportError: it can't be written. The last event is FAILED then, and the checkpoints are as they were.
    """
    if config.trainer.export == "none":
        return Phase.DONE
    try:
        step = _step(config, store)
        return _export(config, folder, step, interruption, poll) if _make_way(folder, step) else Phase.DONE
    except (MrpoError, OSError) as error:
        why = str(error)
    folder.event(Phase.FAILED, detail=f"all steps are done and saved, but the model isn't written: {why}")
    raise ExportError(
        f"all steps are done and saved, but the model isn't written: {why}\n"
        f"The same command tries again. Elsewhere: mrpo export {folder.path} --out FOLDER"
    )


def _step(config: RunConfig, store: CheckpointStore) -> int:
    if config.trainer.export == "best":
        return best_step(store, config.checkpoint)
    if not (steps := store.steps()):
        raise ExportError(f"{store.root} has no checkpoint")
    return steps[-1]


def _make_way(folder: RunFolder, step: int) -> bool:
    """Whether the model of this step is to be written. One of another step is renamed; any other folder stays."""
    if not folder.model.exists():
        return True
    there = step_of_export(folder.model)
    if there is None:
        folder.event(Phase.EXPORT, step=step, detail=f"{folder.model} is there and no export: it stays as it is")
    if there is None or there == step:
        return False
    folder.model.rename(folder.path / f"model-step-{there}")
    return True


def _export(
    config: RunConfig, folder: RunFolder, step: int, interruption: Interruption, poll: Callable[[], None]
) -> str:
    run, merge = folder.path.resolve(), ["--merge"] if lora_rank(model_settings(config)) else []
    words = ["export", str(run), f"step={step}", "--out", str(run / "model"), "--scratch", str(folder.scratch), *merge]
    command = [sys.executable, "-S", fork_client.__file__, "-m", "mrpo.cli.main", *words]
    what, log, reported = f"step {step} to {folder.model}", folder.logs / "export.log", time.monotonic()
    folder.event(Phase.EXPORT, step=step, detail=what)
    for left in folder.path.glob(PARTIAL):  # by a killed attempt, maybe on another host; nobody else runs this run
        shutil.rmtree(left, ignore_errors=True)
    with open(log, "wb") as out:  # in a session of its own, as a terminal's Ctrl-C is for this process to answer
        process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True, preexec_fn=die_with_parent)
    while process.poll() is None and interruption.request is None:
        poll()
        if time.monotonic() - reported > REPORT_SECONDS:
            reported = time.monotonic()
            folder.event(Phase.EXPORT, step=step, detail=f"{what}: {_written(folder)} written")
        time.sleep(POLL_SECONDS)
    if process.poll() is None:
        process.terminate()
        process.wait()
    if process.returncode == 0:
        return Phase.DONE
    if interruption.request is not None:
        folder.event(Phase.STOPPED, detail=f"all {step} steps are saved, the model isn't written yet")
        return Phase.STOPPED
    raise ExportError(_message(log.read_text(encoding="utf-8", errors="replace")) or f"see {log}")


def _message(log: str) -> str:
    """What the command said last, in the form of all commands; empty if it ended in another way.

    >>> _message("mrpo: a note\\nmrpo: no space\\nnanobind: leaked 4 instances!")
    'no space'
    """
    _, _, message = log.rpartition("mrpo: ")
    return message.partition("\nnanobind: ")[0].strip() if "mrpo: " in log else ""  # which triton says after the end


def _written(folder: RunFolder) -> str:
    """How much of it is on the disk."""
    size = 0
    for file in folder.path.glob(f"{PARTIAL}/*"):
        try:
            size += file.stat().st_size
        except FileNotFoundError:  # it was finished, or removed, just now
            continue
    return f"{size / 1e9:.2f} GB"
