"""The processes of an attempt on this machine: Ray (or a Ray cluster joined), the fork server, their private folder."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

import ray

from mrpo.config.run import RunConfig
from mrpo.driver import ray_node
from mrpo.driver.fork_client import ENV
from mrpo.driver.fork_server import ForkServer
from mrpo.driver.other_nodes import on_other_nodes
from mrpo.driver.private_folder import PrivateFolder, remove_left_behind, temporary_folder
from mrpo.record.logs import collect_actor_logs, remove_actor_logs
from mrpo.record.phase import Phase
from mrpo.record.run_folder import RunFolder


class Processes:
    """Use it as a context manager: leaving it ends them all and brings their logs into the run folder.

    Within another ``with`` of the same object, nothing is left to do for the outer one.
    """

    def __init__(self, folder: RunFolder):
        self.folder = folder
        self.entered = False
        self.joined = False
        self.shared: ray_node.SharedNode | None = None
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
        self.joined = config.trainer.ray == "join"
        if not self.joined:
            variables = variables | self.private.environment()
        runtime_env: dict[str, Any] = {"env_vars": variables}
        self.import_libraries(config, device, variables)
        if self.fork_server is not None:
            self.folder.event(Phase.IMPORT_LIBRARIES)
            runtime_env["py_executable"] = shlex.quote(str(self.fork_server.executable))  # Ray gives it to a shell
        else:
            os.environ.pop(ENV, None)  # of a command that trains several times
        self.folder.event(Phase.START_RAY)
        self.shared = ray_node.SharedNode.found() if self.fork_server is not None else None
        if self.joined:
            ray.init(runtime_env=runtime_env, **ray_node.QUIET)
        elif self.shared is not None:
            self.shared.join(runtime_env)
        else:
            slots = ray_node.slots_on_cpu(config) if device == "cpu" else {}
            ray_node.start(self.private.ray, self.private.token, slots, runtime_env)
        if self.fork_server is not None:
            raylet = ray_node.raylet_pid() if self.shared is None else self.shared.raylet
            self.fork_server.join_ray(ray.get_runtime_context().get_job_id(), raylet)

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
            alone = not self.joined and self.shared is None
            self.job = None if alone else ray.get_runtime_context().get_job_id()

    def _collect_logs_elsewhere(self) -> None:
        if self.joined and self.job is not None:
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
            if self.shared is not None and self.job is not None:
                remove_actor_logs(logs, self.job)  # the folder is there for many runs


def ray_logs() -> Path:
    """Where this node's Ray keeps what its workers print."""
    return Path(ray_node.ray_node().get_logs_dir_path())


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
