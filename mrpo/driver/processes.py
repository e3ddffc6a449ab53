"""The processes of an attempt on this machine: Ray (or a Ray cluster joined), the fork server, their private folder."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

import ray
from ray._private import ray_constants

from mrpo.config.run import RunConfig
from mrpo.driver.bare_node import bare_node
from mrpo.driver.fork_client import ENV
from mrpo.driver.fork_server import ForkServer
from mrpo.driver.other_nodes import on_other_nodes
from mrpo.driver.private_folder import PrivateFolder, remove_left_behind, temporary_folder
from mrpo.record.logs import collect_actor_logs
from mrpo.record.phase import Phase
from mrpo.record.run_folder import RunFolder

SLOW_START = "timed out during startup"
"""In Ray's message when its node didn't register in time."""


class Processes:
    """Use it as a context manager: leaving it ends them all and brings their logs into the run folder.

    Within another ``with`` of the same object, nothing is left to do for the outer one.
    """

    def __init__(self, folder: RunFolder):
        self.folder = folder
        self.entered = False
        self.own_ray = True
        self.fork_server: ForkServer | None = None
        self.logs: Path | None = None
        self.job: str | None = None

    def __enter__(self) -> Processes:
        if not self.entered:
            remove_left_behind(temporary_folder())
            self.private = PrivateFolder()
            self.entered = True
        return self

    def import_libraries(self, config: RunConfig, device: str, variables: dict[str, str]) -> None:
        """Let the fork server begin, where there will be one, unless it has: what is done meanwhile costs no time."""
        # A fork server belongs to one raylet.
        if self.fork_server is None and device == "cpu" and config.trainer.fork_workers and config.trainer.ray == "own":
            os.environ.pop("RAY_ADDRESS", None)  # of another Ray, which nobody here shall join
            variables = variables | self.private.environment()
            self.fork_server = ForkServer(self.private.path, self.folder.logs / "fork_server.log", variables)

    def start(self, config: RunConfig, device: str, variables: dict[str, str]) -> None:
        """Start them with these environment ``variables``."""
        self.own_ray = config.trainer.ray == "own"
        if self.own_ray:
            os.environ.pop("RAY_ADDRESS", None)  # of another Ray, which nobody here shall join
            variables = variables | self.private.environment()
        runtime_env: dict[str, Any] = {"env_vars": variables}
        self.import_libraries(config, device, variables)
        if self.fork_server is not None:
            self.folder.event(Phase.IMPORT_LIBRARIES)
            runtime_env["py_executable"] = str(self.fork_server.executable)
        else:
            os.environ.pop(ENV, None)  # of a command that trains several times
        self.folder.event(Phase.START_RAY)
        _start_ray(config, device, self.private, runtime_env)
        if self.fork_server is not None:
            raylet = _ray_node().all_processes["raylet"][0].process
            self.fork_server.join_ray(ray.get_runtime_context().get_job_id(), raylet.pid)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """Each step is tried whatever became of the one before, and none of them hides how the attempt ended."""
        if not self.entered:
            return
        self.entered = False
        in_order = (self._ask_where_logs_are, self._collect_logs_elsewhere, ray.shutdown, self._stop_fork_server)
        for step in (*in_order, self._collect_logs, self.private.remove):
            try:
                step()
            except Exception as trouble:
                name = step.__name__.strip("_").replace("_", " ")
                print(f"mrpo: cleaning up, {name}: {type(trouble).__name__}: {trouble}", file=sys.stderr)

    def _ask_where_logs_are(self) -> None:
        if ray.is_initialized():
            self.logs = ray_logs()
            self.job = None if self.own_ray else ray.get_runtime_context().get_job_id()

    def _collect_logs_elsewhere(self) -> None:
        if self.job is not None:
            _collect_logs_elsewhere(self.folder, self.job)

    def _stop_fork_server(self) -> None:
        if self.fork_server is not None:
            self.fork_server.stop()
            self.fork_server = None

    def _collect_logs(self) -> None:
        """After the shutdown, when all is written."""
        logs, self.logs = self.logs, None
        if logs is not None and logs.is_dir():
            collect_actor_logs(logs, self.folder.logs, self.job)


def ray_logs() -> Path:
    """Where this node's Ray keeps what its workers print."""
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
    collect_actor_logs(ray_logs(), logs / name, job)


def _ray_node() -> Any:
    """Ray's record of the node that this process started or joined; there is no public way to its log folder."""
    return ray._private.worker._global_node


def _require_tokens(token: Path) -> None:
    """From now on this process, and the Ray that it starts, know this token and no other.

    They are inherited, as Ray logs what goes into its ``runtime_env``.
    """
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    os.environ.setdefault("VLLM_API_KEY", secrets.token_hex(32))  # may be the user's, for a server that rewards ask
    os.environ.pop("RAY_AUTH_TOKEN", None)  # of another Ray, and it would win
    raylet: Any = ray._raylet
    raylet.Config.initialize("")  # the C++ side read the environment when it was loaded
    raylet.AuthenticationTokenLoader.instance().reset_cache()


def _start_ray(config: RunConfig, device: str, private: PrivateFolder, runtime_env: dict[str, Any]) -> None:
    """A Ray of our own, or the one that RAY_ADDRESS names (``trainer.ray``)."""
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "runtime_env": runtime_env}
    if config.trainer.ray == "join":
        ray.init(**quiet)
        return
    _require_tokens(private.token)
    # Ray's switch for systems on which it has no clusters: a node's address is then the loopback's, on which alone Ray,
    # and whatever asks it for this node's address, listens. It takes 127.0.0.1 for the address of another interface.
    ray_constants.ENABLE_RAY_CLUSTER = False
    os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = "0"
    # For a dashboard that isn't there, Ray's store keeps a record of each of the last 100,000 tasks, hundreds of MiB,
    # and every process counts what it does. A worker without work looks after signals a hundred times a second.
    system = {"task_events_report_interval_ms": 0, "enable_metrics_collection": False, "event_stats": False}
    system |= {"prestart_worker_first_driver": False, "num_workers_soft_limit": 0}
    local: dict[str, Any] = {"include_dashboard": False, "_temp_dir": str(private.ray), "_system_config": system}
    if device == "cpu":  # logical: verl asks for a slot per rank and engine, and a CPU per worker
        separate = config.rollout.placement == "separate"
        engines = config.rollout.replicas * config.rollout.tensor_model_parallel_size if separate else 0
        models = [reward.model for reward in config.rewards.values() if reward.model]
        slots = config.ranks + engines + sum(model.replicas * model.tensor_model_parallel_size for model in models)
        local |= {"num_gpus": slots, "num_cpus": 16 + 4 * slots + config.scoring.workers}
    for retries_left in (2, 1, 0):
        try:
            with bare_node():
                ray.init("local", **local, **quiet)  # else it would join one that somebody has started here
            return
        except Exception as error:
            # Ray gives its own node 30 s, whatever the machine: too little where other work keeps the cores busy.
            if not retries_left or SLOW_START not in str(error):
                raise
            ray.shutdown()
