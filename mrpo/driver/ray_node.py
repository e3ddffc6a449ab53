"""Ray's node on this machine: an attempt's own, or one that a command's runs, one after another, have together.

Whoever starts it owns it: the node ends with that process. A run that joins finds it by the environment, and is a job
of its own there, whose workers are all forked by the run's own fork server, so that they end with it.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import ray
from ray._private import ray_constants

from mrpo.config.run import RunConfig
from mrpo.driver.bare_node import bare_node
from mrpo.driver.private_folder import PrivateFolder

ENV = "MRPO_RAY"
SLOW_START = "timed out during startup"
"""In Ray's message when its node didn't register in time."""
ANSWER_SECONDS = 10.0
"""Ray itself waits without end for a node that is gone."""
END_SECONDS = 60.0
"""Ray ends within seconds."""
QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}


def slots_on_cpu(config: RunConfig) -> dict[str, int]:
    """What Ray is to hand out on a machine without accelerators. Logical: verl asks for a slot per rank and engine, and
    a CPU per worker."""
    separate = config.rollout.placement == "separate"
    engines = config.rollout.replicas * config.rollout.tensor_model_parallel_size if separate else 0
    models = [reward.model for reward in config.rewards.values() if reward.model]
    slots = config.ranks + engines + sum(model.replicas * model.tensor_model_parallel_size for model in models)
    return {"num_gpus": slots, "num_cpus": 16 + 4 * slots + config.scoring.workers}


def start(folder: Path, token: Path, slots: Mapping[str, int], runtime_env: Mapping[str, Any] | None = None) -> None:
    """A node with its session in ``folder``, that only this user reaches, by the loopback and the token; this process
    is a driver."""
    os.environ.pop("RAY_ADDRESS", None)  # of another Ray, which nobody here shall join
    _require_token(token)
    # Ray's switch for systems on which it has no clusters: a node's address is then the loopback's, on which alone Ray,
    # and whatever asks it for this node's address, listens. It takes 127.0.0.1 for the address of another interface.
    _without_clusters()
    # For a dashboard that isn't there, Ray's store keeps a record of each of the last 100,000 tasks, hundreds of MiB,
    # and every process counts what it does. A worker without work looks after signals a hundred times a second.
    system = {"task_events_report_interval_ms": 0, "enable_metrics_collection": False, "event_stats": False}
    system |= {"prestart_worker_first_driver": False, "num_workers_soft_limit": 0}
    local: dict[str, Any] = {"include_dashboard": False, "_temp_dir": str(folder), "_system_config": system}
    for retries_left in (2, 1, 0):
        try:
            with bare_node():
                # "local", or it would join one that somebody has started here.
                ray.init("local", runtime_env=runtime_env, **{**slots, **local, **QUIET})
            return
        except Exception as error:
            # Ray gives its own node 30 s, whatever the machine: too little where other work keeps the cores busy.
            if not retries_left or SLOW_START not in str(error):
                raise
            ray.shutdown()


class SharedNode(NamedTuple):
    """Where a run finds the node of the command that has started it."""

    address: str
    token: str
    raylet: int
    """Process id, and since when it runs, as another process may have its number later."""
    since: float

    @classmethod
    def found(cls) -> SharedNode | None:
        """None: there is none, or it has ended."""
        node = cls.of(os.environ.get(ENV, ""))
        if node is None:
            return None
        host, _, port = node.address.rpartition(":")
        try:
            raylet = psutil.Process(node.raylet)
            if raylet.create_time() != node.since or raylet.status() == psutil.STATUS_ZOMBIE:
                return None
            socket.create_connection((host, int(port)), ANSWER_SECONDS).close()
        except (psutil.NoSuchProcess, OSError):
            return None
        return node

    @classmethod
    def of(cls, said: str) -> SharedNode | None:
        """None: this is something else."""
        try:
            return cls(**json.loads(said))
        except (ValueError, TypeError):
            return None

    def join(self, runtime_env: Mapping[str, Any]) -> None:
        """Make this process a driver there."""
        _require_token(Path(self.token))
        _without_clusters()
        ray.init(self.address, runtime_env=runtime_env, **QUIET)


@contextmanager
def shared_node(
    private: PrivateFolder, slots: Mapping[str, int], variables: Mapping[str, str], log: Path
) -> Iterator[None]:
    """While this is entered, runs that this process starts on this machine join one node. A process of its own starts
    it: a driver is ended by Ray when its node is gone, which must not end who waits for the runs.

    Args:
        private: where the node's session and its token lie.
        slots: enough for any one of the runs.
        variables: what the node has in its environment.
        log: gets what it prints.
    """
    command = [sys.executable, "-m", __name__, str(private.ray), str(private.token), json.dumps(slots)]
    with open(log, "ab") as out:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=out, text=True, start_new_session=True,
            env={**os.environ, **variables},
        )  # fmt: skip
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        said = next(filter(SharedNode.of, process.stdout), None)
        if said is not None:  # else none has started, and each run starts its own
            os.environ[ENV] = said
        yield
    finally:
        os.environ.pop(ENV, None)
        process.stdin.close()
        try:
            with suppress(subprocess.TimeoutExpired):
                process.wait(END_SECONDS)  # or what it still does would be in a folder that is removed
        finally:
            process.kill()  # unless it has ended
            process.wait()
            process.stdout.close()


def serve(ray_folder: Path, token: Path, slots: Mapping[str, int]) -> None:
    """Start a node, say where it is, and end it when nobody holds the other end of this process's input."""
    control = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)  # for Ray's processes: a program that one of them starts would wait for that end, too
    os.close(nothing)
    start(ray_folder, token, slots)
    raylet = raylet_pid()
    address = ray.get_runtime_context().gcs_address
    print(
        json.dumps(SharedNode(address, str(token), raylet, psutil.Process(raylet).create_time())._asdict()), flush=True
    )
    os.read(control, 1)
    ray.shutdown()


def raylet_pid() -> int:
    """Of the node that this process has started."""
    return int(ray_node().all_processes["raylet"][0].process.pid)


def ray_node() -> Any:
    """Ray's record of the node that this process started or joined; there is no public way to its log folder."""
    return ray._private.worker._global_node


def _without_clusters() -> None:
    ray_constants.ENABLE_RAY_CLUSTER = False
    os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = "0"


def _require_token(token: Path) -> None:
    """From now on this process, and the Ray that it starts, know this token and no other.

    They are inherited, as Ray logs what goes into its ``runtime_env``.
    """
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    os.environ.setdefault("VLLM_API_KEY", secrets.token_hex(32))  # may be the user's, for a server that rewards ask
    os.environ.pop("RAY_AUTH_TOKEN", None)  # of another Ray, and it would win
    raylet: Any = ray._raylet
    raylet.Config.initialize("")  # the C++ side read the environment when it was loaded
    raylet.AuthenticationTokenLoader.instance().reset_cache()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]))
