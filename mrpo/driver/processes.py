"""The processes of an attempt on this machine: Ray (or a Ray cluster joined), the fork server, their scratch folder."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

import ray

from mrpo.config.run import RunConfig
from mrpo.driver.fork_server import ForkServer
from mrpo.driver.other_nodes import on_other_nodes
from mrpo.record.logs import collect_actor_logs
from mrpo.record.phase import Phase
from mrpo.record.run_folder import RunFolder

SLOW_START = "timed out during startup"
"""In Ray's message when its node didn't register in time."""


class Processes:
    """Use it as a context manager: leaving it ends them all and brings their logs into the run folder."""

    def __init__(self, folder: RunFolder):
        self.folder = folder
        self.own_ray = not os.environ.get("RAY_ADDRESS")
        self.fork_server: ForkServer | None = None

    def __enter__(self) -> Processes:
        self.scratch = _make_scratch_folder()
        return self

    def start(self, config: RunConfig, device: str, variables: dict[str, str]) -> None:
        """Start them with these environment ``variables``."""
        runtime_env: dict[str, Any] = {"env_vars": variables}
        if device == "cpu" and config.trainer.fork_workers and self.own_ray:  # a fork server belongs to one raylet
            self.folder.event(Phase.IMPORT_LIBRARIES)
            self.fork_server = ForkServer(self.scratch, self.folder.logs / "fork_server.log")
            runtime_env["py_executable"] = str(self.fork_server.executable)
        self.folder.event(Phase.START_RAY)
        _start_ray(config, device, self.scratch, runtime_env)
        if self.fork_server is not None:
            raylet = _ray_node().all_processes["raylet"][0].process
            self.fork_server.join_ray(ray.get_runtime_context().get_job_id(), raylet.pid)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        logs = _ray_logs() if ray.is_initialized() else None
        job = None if self.own_ray or logs is None else ray.get_runtime_context().get_job_id()
        if job is not None:
            _collect_logs_elsewhere(self.folder, job)
        ray.shutdown()
        if self.fork_server is not None:
            self.fork_server.stop()
        if logs is not None and logs.is_dir():  # after the shutdown, when all is written
            collect_actor_logs(logs, self.folder.logs, job)
        shutil.rmtree(self.scratch, ignore_errors=True)


def _make_scratch_folder() -> Path:
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
    for retries_left in (2, 1, 0):
        try:
            ray.init(**local, **quiet)
            return
        except Exception as error:
            # Ray gives its own node 30 s, whatever the machine: too little where other work keeps the cores busy.
            if not retries_left or SLOW_START not in str(error):
                raise
            ray.shutdown()
