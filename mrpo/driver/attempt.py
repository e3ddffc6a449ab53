"""One attempt at a run: start its processes, wait for the controller, pass on a request to end, clean up.

This module runs in the command's own process, which stays light: verl, torch and vLLM are imported by the actors.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

import ray
from omegaconf import DictConfig, OmegaConf
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mrpo.config.positions import require_positions
from mrpo.config.run import RunConfig
from mrpo.data.cached import folder_of, job_of, make_rows, use_rows
from mrpo.data.sources import require_rewards
from mrpo.driver.environment import environment, in_effect
from mrpo.driver.interruption import Interruption
from mrpo.driver.processes import Processes
from mrpo.errors import RunFailed
from mrpo.record.cause import root_cause
from mrpo.record.disk import full
from mrpo.record.phase import Phase
from mrpo.record.run_folder import RunFolder

CONTROLLER_POLL_SECONDS = 0.25


class Controller:
    """Ray actor that runs verl's trainer loop. It imports verl in its own process only."""

    def run(self, config: dict[str, Any]) -> None:
        from mrpo.verl_seam.controller import run_controller

        run_controller(OmegaConf.create(config))


def run_attempt(
    config: RunConfig,
    verl: DictConfig,
    folder: RunFolder,
    interruption: Interruption,
    poll: Callable[[], None],
    finish: Callable[[], str] | None = None,
    processes: Processes | None = None,
) -> str:
    """Run to the end, calling ``poll`` a few times a second. Logs end up in the run folder, whatever happens.

    ``finish`` is called once all steps are done, while the fork server is there still; what it returns is how the run
    ended, and what it raises isn't a failure of the attempt. ``processes`` may have begun to import; none of
    them is left.

    Returns:
        How the run ended, as its last event says: DONE, or STOPPED if it was asked to by ``interruption`` or by
        somebody who made the folder's stop file.

    Raises:
        ConfigError: the data files have rows that can't be used.
        RunFailed: the run did not finish.
    """
    variables = environment(config, verl.trainer.device, folder)
    try:
        with in_effect(variables), processes or Processes(folder) as processes:
            processes.import_libraries(config, verl.trainer.device, variables)
            _use_checked_rows(config, verl, folder, poll)
            folder.stop_file.unlink(missing_ok=True)
            began = time.time()
            # Within: how the attempt ended is on record before the slow cleaning up begins.
            try:
                processes.start(config, verl.trainer.device, variables)
                interruption.take_signals()  # Ray has installed handlers of its own
                end = _wait(_start_controller(verl), config, folder, interruption, poll, began)
            except Exception as caught:
                cause = root_cause(str(_failure(folder, caught)))
                lines = (full(folder.path), cause, f"logs: {folder.logs}")  # what failed to write says it otherwise
                raise RunFailed("\n".join(filter(None, lines))) from caught
            if end == Phase.DONE and finish is not None:
                end = finish()
            if end == Phase.DONE:
                folder.event(Phase.DONE)
            return end
    finally:
        poll()


def _use_checked_rows(config: RunConfig, verl: DictConfig, folder: RunFolder, poll: Callable[[], None]) -> None:
    job = job_of(config, verl)
    if not folder_of(job).exists():
        folder.event(Phase.CHECK_ROWS)
        poll()
    made, report = make_rows(job, poll)
    require_rewards(config, report)
    require_positions(config)  # of a model that has just been prepared
    use_rows(verl, job, made)


def _start_controller(verl: DictConfig) -> ray.ObjectRef:
    """Start it on this node; returns what its end will be known by."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    controller: Any = ray.remote(Controller).options(num_cpus=1, scheduling_strategy=here).remote()
    return controller.run.remote(OmegaConf.to_container(verl, resolve=False))


def _wait(
    run: ray.ObjectRef,
    config: RunConfig,
    folder: RunFolder,
    interruption: Interruption,
    poll: Callable[[], None],
    began: float,
) -> str:
    """Wait for the controller to end, or for a reason to leave it; returns how, with an event unless it is DONE."""
    while not ray.wait([run], timeout=CONTROLLER_POLL_SECONDS)[0]:
        poll()
        if reason := _reason_to_leave(config, folder, interruption, began):
            folder.event(Phase.STOPPED, detail=reason)
            return Phase.STOPPED
    ray.get(run)
    if folder.events()[-1]["phase"] == Phase.STOPPED:  # the controller has saved and says so itself
        return Phase.STOPPED
    return Phase.DONE


def _reason_to_leave(config: RunConfig, folder: RunFolder, interruption: Interruption, began: float) -> str | None:
    """Why the controller is no longer waited for; None while it is. It gets to know of a request to end here.

    Raises:
        RuntimeError: it should have started long ago.
    """
    request = interruption.request
    if request is not None:
        folder.stop_file.touch()
        if not _has(folder, Phase.PLAN, began):  # nothing is trained that could be saved
            return f"by {request.cause}, before the first step"
    if time.time() - began > config.watchdog.timeout and not _has(folder, Phase.START_CONTROLLER, began):
        raise RuntimeError(f"the controller did not start within {config.watchdog.timeout:g} s (watchdog.timeout)")
    if request is not None and interruption.seconds_left == 0:
        return f"not saved within the {interruption.grace:g} s of interrupt.grace"
    return None


def _failure(folder: RunFolder, caught: Exception) -> RunFailed:
    """Write the event of a failure. A watchdog that gave up knows its cause better than who found the process dead."""
    last = folder.events()[-1]
    message = last["detail"] if last["phase"] == Phase.STUCK else str(caught)
    lines = message.strip().splitlines()
    detail = full(folder.path) or (lines[-1][:500] if lines else "")
    with contextlib.suppress(OSError):  # it is said on the terminal, too
        folder.event(Phase.FAILED, detail=detail)
    return RunFailed(message)


def _has(folder: RunFolder, phase: str, since: float) -> bool:
    return any(event["phase"] == phase and event["time"] >= since for event in folder.events())
