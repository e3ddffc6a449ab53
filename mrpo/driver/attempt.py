"""One attempt at a run: start its processes, wait for the controller, pass on a request to end, clean up.

This module runs in the command's own process, which stays light: verl, torch and vLLM are imported by the actors.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import ray
from omegaconf import DictConfig, OmegaConf
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mrpo.config.positions import require_positions
from mrpo.config.run import RunConfig
from mrpo.data.cached import folder_of, job_of, make_rows, use_rows
from mrpo.data.sources import require_rewards
from mrpo.driver.interruption import Interruption
from mrpo.driver.processes import Processes
from mrpo.errors import RunFailed
from mrpo.record import repeated
from mrpo.record.cause import root_cause
from mrpo.record.disk import full
from mrpo.record.phase import Phase
from mrpo.record.run_folder import RunFolder

CONTROLLER_POLL_SECONDS = 0.25
LOG_BYTES = 8 << 20
"""A process's output goes on in a new file then, and the one before the last is dropped."""


class Controller:
    """Ray actor that runs verl's trainer loop. It imports verl in its own process only."""

    def run(self, config: dict[str, Any]) -> None:
        from mrpo.verl_seam.controller import run_controller

        run_controller(OmegaConf.create(config))


def environment(config: RunConfig, device: str, folder: RunFolder) -> dict[str, str]:
    """Environment of every process of a run; what the user has set stays."""
    values = {
        "TOKENIZERS_PARALLELISM": "false",
        "RAY_USAGE_STATS_ENABLED": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_DISABLE_COMPILE_CACHE": "1",  # a stale cache broke runs: github.com/vllm-project/vllm/issues/31199
        "NCCL_DEBUG": "WARN",
        "TRANSFER_QUEUE_ENABLE": "1",
        "TQ_NUM_THREADS": str(min(8, psutil.cpu_count(logical=False) or 8)),  # it warns of more at each request
        repeated.ENV: "1",
        "RAY_ROTATION_MAX_BYTES": str(LOG_BYTES),
        "RAY_ROTATION_BACKUP_COUNT": "1",
        "HYDRA_FULL_ERROR": "1",
        "TENSORBOARD_DIR": str(folder.path.resolve() / "tensorboard"),
        "WANDB_DIR": str(folder.path.resolve()),
    }
    if config.trainer.determinism == "strict" and device == "cuda":
        values["VLLM_BATCH_INVARIANT"] = "1"
    model = Path(config.model.path).expanduser()
    if model.exists() or model.is_absolute():  # the recipe's prepare script may still be making it
        values["HF_HUB_OFFLINE"] = "1"
    if "wandb" in config.trainer.logger:
        values |= {"WANDB_RUN_ID": folder.wandb_run_id(), "WANDB_RESUME": "allow"}
        if not os.environ.get("WANDB_API_KEY"):
            values["WANDB_MODE"] = "offline"
    if device == "cpu":
        cores = len(os.sched_getaffinity(0))
        engines = config.rollout.replicas if config.rollout.placement == "separate" else config.ranks
        values |= {
            "VERL_PLATFORM": "cpu",
            "TORCHDYNAMO_DISABLE": "1",  # needs a C compiler, and compiles longer than a small model runs
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "OMP_NUM_THREADS": str(max(1, cores // config.ranks)),
            "OMP_WAIT_POLICY": "PASSIVE",  # spinning threads of one process starve the others of a shared core
            "MRPO_ROLLOUT_THREADS": str(max(1, cores // engines)),
        }
    return {name: os.environ.get(name, value) for name, value in values.items()}


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
    os.environ.update(variables)
    try:
        with processes or Processes(folder) as processes:
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
