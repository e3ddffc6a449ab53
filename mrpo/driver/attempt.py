"""Start a run's processes on this machine (or join a Ray cluster), wait for the controller, pass on a stop, clean up.

This module runs in the command's own process, which stays light: verl, torch and vLLM are imported by the actors.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from omegaconf import DictConfig, OmegaConf
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mrpo.config.run import RunConfig
from mrpo.driver.fork_server import ForkServer
from mrpo.driver.interruption import Interruption
from mrpo.driver.other_nodes import on_other_nodes
from mrpo.record.logs import collect_actor_logs
from mrpo.record.run_folder import DONE, FAILED, PLAN, STOPPED, STUCK, RunFolder

POLL_SECONDS = 0.25


class RunFailed(RuntimeError):
    """The controller ended with an error; the message is its traceback."""


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
        "HYDRA_FULL_ERROR": "1",
        "TENSORBOARD_DIR": str(folder.path.resolve() / "tensorboard"),
        "WANDB_DIR": str(folder.path.resolve()),
    }
    if config.trainer.determinism == "strict" and device == "cuda":
        values["VLLM_BATCH_INVARIANT"] = "1"
    if Path(config.model.path).expanduser().exists():
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


def launch(
    config: RunConfig, verl: DictConfig, folder: RunFolder, interruption: Interruption, poll: Callable[[], None]
) -> str:
    """Run to the end, calling ``poll`` a few times a second. Logs end up in the run folder, whatever happens.

    Returns:
        How the run ended, as its last event says: DONE, or STOPPED if it was asked to by ``interruption`` or by
        somebody who made the folder's stop file.

    Raises:
        RunFailed: the run did not finish.
    """
    device = verl.trainer.device
    variables = environment(config, device, folder)
    os.environ.update(variables)
    folder.stop_file.unlink(missing_ok=True)
    began = time.time()
    scratch = _scratch()
    fork_server = None
    own_ray = not os.environ.get("RAY_ADDRESS")
    try:
        runtime_env: dict[str, Any] = {"env_vars": variables}
        if device == "cpu" and config.trainer.fork_workers and own_ray:  # a fork server belongs to one raylet
            folder.event("import libraries")
            fork_server = ForkServer(scratch, folder.logs / "fork_server.log")
            runtime_env["py_executable"] = str(fork_server.executable)
        folder.event("start ray")
        _start_ray(config, device, scratch, runtime_env)
        interruption.take_signals()
        if fork_server is not None:
            raylet = _ray_node().all_processes["raylet"][0].process
            fork_server.join_ray(ray.get_runtime_context().get_job_id(), raylet.pid)
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        controller: Any = ray.remote(Controller).options(num_cpus=1, scheduling_strategy=here).remote()
        run = controller.run.remote(OmegaConf.to_container(verl, resolve=False))
        asked = False
        while not ray.wait([run], timeout=POLL_SECONDS)[0]:
            poll()
            if interruption.request is not None and not asked:
                asked = True
                folder.stop_file.touch()
                if not _has(folder, PLAN, began):
                    folder.event(STOPPED, detail=f"by {interruption.request.cause}, before the first step")
                    return STOPPED
            if time.time() - began > config.watchdog.timeout and not _has(folder, "start controller", began):
                raise RuntimeError(
                    f"the controller did not start within {config.watchdog.timeout:g} s (watchdog.timeout)"
                )
            if asked and interruption.seconds_left == 0:
                folder.event(STOPPED, detail=f"not saved within the {interruption.grace:g} s of interrupt.grace")
                return STOPPED
        ray.get(run)
        if folder.events()[-1]["phase"] == STOPPED:
            return STOPPED
        folder.event(DONE)
        return DONE
    except Exception as caught:
        last = folder.events()[-1]
        error = RuntimeError(last["detail"]) if last["phase"] == STUCK else caught
        folder.event(FAILED, detail=str(error).strip().splitlines()[-1][:500] if str(error).strip() else "")
        raise RunFailed(str(error)) from caught
    finally:
        logs = _ray_logs() if ray.is_initialized() else None
        job = None if own_ray or logs is None else ray.get_runtime_context().get_job_id()
        if job is not None:
            _collect_logs_elsewhere(folder, job)
        ray.shutdown()
        if fork_server is not None:
            fork_server.stop()
        if logs is not None and logs.is_dir():
            collect_actor_logs(logs, folder.logs, job)
        shutil.rmtree(scratch, ignore_errors=True)
        poll()


def _has(folder: RunFolder, phase: str, since: float) -> bool:
    return any(event["phase"] == phase and event["time"] >= since for event in folder.events())


def _scratch() -> Path:
    """A folder with a short path, as Ray's sockets lie in it. Those of runs that were killed are removed."""
    for stale in Path("/tmp").glob("mrpo-*-*"):
        owner = stale.name.split("-")[1]
        if owner.isdigit() and not Path("/proc", owner).exists():
            shutil.rmtree(stale, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"mrpo-{os.getpid()}-", dir="/tmp"))


def _ray_logs() -> Path:
    return Path(_ray_node().get_logs_dir_path())


def _collect_logs_elsewhere(folder: RunFolder, job: str) -> None:
    """Logs of the other nodes. What is missing is said beside them: it must not change how the run ended."""
    try:
        troubles = on_other_nodes(_collect_logs_here, folder.logs.resolve(), job, seconds=20)
    except Exception as error:
        troubles = [f"all other nodes: {type(error).__name__}: {error}"]
    if troubles:
        (folder.logs / "not_collected.txt").write_text("\n".join(troubles), encoding="utf-8")


def _collect_logs_here(logs: Path, job: str) -> None:
    """The logs of the node that this runs on, into a folder of its own; run folders are on a shared file system."""
    context = ray.get_runtime_context()
    name = next(node["NodeName"] for node in ray.nodes() if node["NodeID"] == context.get_node_id())
    collect_actor_logs(_ray_logs(), logs / name, job)


def _ray_node() -> Any:
    """Ray's record of the node that this process started or joined; there is no public way to its log folder."""
    return ray._private.worker._global_node


def _start_ray(config: RunConfig, device: str, scratch: Path, runtime_env: dict[str, Any]) -> None:
    """A Ray of our own, or the one that RAY_ADDRESS names."""
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "runtime_env": runtime_env}
    if os.environ.get("RAY_ADDRESS"):
        ray.init(**quiet)
        return
    local: dict[str, Any] = {"include_dashboard": False, "_temp_dir": str(scratch)}
    if device == "cpu":  # logical: verl asks for a slot per rank and engine, and a CPU per worker
        separate = config.rollout.placement == "separate"
        engines = config.rollout.replicas * config.rollout.tensor_model_parallel_size if separate else 0
        models = [reward.model for reward in config.rewards.values() if reward.model]
        slots = config.ranks + engines + sum(model.replicas * model.tensor_model_parallel_size for model in models)
        local |= {"num_gpus": slots, "num_cpus": 16 + 4 * slots + config.scoring.workers}
    ray.init(**local, **quiet)
