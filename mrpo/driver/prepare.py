"""Run a recipe's ``prepare`` script, which makes model and data once, into a cache."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable

from mrpo.config.checked_run import CheckedRun
from mrpo.errors import RunFailed, usable
from mrpo.program import run_and_poll
from mrpo.record.cause import root_cause
from mrpo.record.phase import Phase
from mrpo.record.run_folder import RunFolder


def is_prepared(run: CheckedRun) -> bool:
    """Whether nothing is left to be made."""
    return run.config.prepare is None or run.prepared.exists()


def prepare(run: CheckedRun, folder: RunFolder, poll: Callable[[], None]) -> None:
    """Make ``run.prepared``, which appears only when it is complete; nothing is to be done if it is there.

    Args:
        run: the run to prepare.
        folder: gets the script's output, in its logs.
        poll: called a few times a second.

    Raises:
        RunFailed: the script failed.
    """
    if run.config.prepare is None or is_prepared(run):
        return
    folder.event(Phase.PREPARE)
    poll()
    partial = run.prepared.with_name(f"{run.prepared.name}.{os.getpid()}.partial")
    with usable("MRPO_CACHE", partial.parent):
        partial.mkdir(parents=True)
    log = folder.logs / "prepare.log"
    script, *arguments = shlex.split(run.config.prepare)
    command = [sys.executable, str(run.recipe.folder / script), *arguments]
    command += ["--out", str(partial), "--seed", str(run.config.seed)]
    with open(log, "wb") as output:
        code = run_and_poll(command, output, poll)
    if code != 0:
        ended = f"{script} exited with code {code}"
        folder.event(Phase.FAILED, detail=ended)
        cause = root_cause(f"{log.read_text(errors='replace')[-4000:]}\n{ended}")
        raise RunFailed(f"{cause}\nlogs: {folder.logs}")
    if run.prepared.exists():  # another run prepared it meanwhile
        return
    partial.rename(run.prepared)
