"""Bring a run to its end: begin where its checkpoints say, and after a failure begin again, as long as that may help.

This module runs in the command's own process. It decides what an attempt begins with; ``run_attempt`` makes one.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from omegaconf import DictConfig

from mrpo.checkpoint.compatible import describe, require_compatible
from mrpo.checkpoint.resume import choose, saved_identity
from mrpo.checkpoint.store import CheckpointStore, Found
from mrpo.config.checked_run import CheckedRun
from mrpo.config.checkpoint import ResumeConfig
from mrpo.config.controller import Attempt, begin
from mrpo.driver.attempt import run_attempt
from mrpo.driver.environment import environment
from mrpo.driver.final_model import write_model
from mrpo.driver.interruption import Interruption
from mrpo.driver.prepare import is_prepared, prepare
from mrpo.driver.processes import Processes
from mrpo.errors import RunFailed
from mrpo.record.phase import Phase
from mrpo.record.run_folder import RunFolder
from mrpo.rewards.source import file_of


def train(run: CheckedRun, folder: RunFolder, interruption: Interruption, poll: Callable[[], None]) -> str:
    """Prepare, then train until all steps are done or ``interruption`` asks to stop; returns DONE or STOPPED.

    A failure is answered by another attempt from the newest checkpoint, ``resume.max_restarts`` times at most, and only
    if the last one got further than the one before: what fails at the same step twice would do so for ever.

    Raises:
        ConfigError: the checkpoints are of another run, or aren't what ``resume`` asks for.
        CheckpointError: there are checkpoints, and none is whole.
        RunFailed: the recipe's prepare script failed; or an attempt did, and another wouldn't help.
        ExportError: all steps are done and saved, but the model isn't written (``trainer.export``).
    """
    verl = run.verl_config(folder.path.resolve())
    with Processes(folder) as processes:
        if not is_prepared(run):
            device = verl.trainer.device
            processes.import_libraries(run.config, device, environment(run.config, device, folder))
            prepare(run, folder, poll)
        return _train(run, verl, folder, interruption, poll, processes)


def _train(
    run: CheckedRun,
    verl: DictConfig,
    folder: RunFolder,
    interruption: Interruption,
    poll: Callable[[], None],
    processes: Processes,
) -> str:
    config = run.config
    store = CheckpointStore(config.checkpoint.folder or folder.checkpoints, folder.scratch)
    sources = {
        name: file_of(reward.function, run.recipe.folder, f"rewards.{name}.function")
        for name, reward in config.rewards.items()
    }
    agent = config.rollout.agent
    code = {given: file_of(given, run.recipe.folder, "rollout.agent") for given in (*agent.tools, *agent.own.values())}
    identity = describe(config, sources, code)
    resume, failed_at = config.resume, -1

    def finish() -> str:
        return write_model(config, folder, store, interruption, poll)

    for restart in range(config.resume.max_restarts + 1):
        number = 1 + sum(event["phase"] == Phase.ATTEMPT for event in folder.events())
        folder.event(Phase.ATTEMPT, detail=str(number), command=sys.argv[1:])
        found = _begin(store, resume, identity, folder)
        folder.config.write_text(config.as_yaml(), encoding="utf-8")
        if found is not None and found.step >= config.trainer.total_training_steps:
            processes.end()  # a fork server without a Ray serves nobody
            end = finish()
            if end == Phase.DONE:
                folder.event(Phase.DONE, detail=f"all {found.step} steps were done already")
            return end
        attempt = Attempt(
            number=number,
            start_step=found.step if found else 0,
            folder=str(found.folder) if found else None,
            identity=identity,
            validate_first=config.trainer.val_before_train and found is None,
        )
        begin(verl, attempt)
        began = time.time()
        try:
            return run_attempt(config, verl, folder, interruption, poll, finish, processes)
        except RunFailed:
            reached = max(completed_steps(folder, began), default=attempt.start_step)
            used_up = restart == config.resume.max_restarts
            if used_up or interruption.request or not store.steps() or reached <= failed_at:
                raise
            failed_at = reached
            resume = ResumeConfig(mode="require", allow=resume.allow)
    raise AssertionError("the last attempt returns or raises")


def completed_steps(folder: RunFolder, since: float) -> set[int]:
    """Steps that were completed after ``since``, by their lines of metrics, or as the next one began: not every step
    has a line (``observe.metrics``). What was given up before is in the files as well."""
    lines = [record["step"] for record in folder.tail_metrics().poll() if record["time"] >= since]
    begun = [e["step"] for e in folder.events() if e["phase"] == Phase.ROLLOUT and e["time"] >= since]
    return {*lines, *(step - 1 for step in begun if step is not None)}


def _begin(
    store: CheckpointStore, resume: ResumeConfig, identity: dict[str, object], folder: RunFolder
) -> Found | None:
    """The checkpoint to go on from, after saying which newer ones can't be used, and giving up what is later."""
    found, skipped = choose(store, resume)
    for checkpoint in skipped:
        folder.event(Phase.SKIP_CHECKPOINT, detail=f"{checkpoint.name}: {checkpoint.reason}")
    if found is None:
        return None
    for difference in require_compatible(saved_identity(found.manifest), identity, resume.allow):
        folder.event(Phase.RESUME, detail=f"allowed: {difference}")
    store.rewind(found.step)
    folder.event(Phase.RESUME, detail=f"from step {found.step}")
    return found
