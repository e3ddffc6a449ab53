"""Cells share a Ray, and the imports of their libraries, where these would read the same environment; only there."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from mrpo.compare import shared_start as module
from mrpo.compare import sweep
from mrpo.compare.grid import cells_of
from mrpo.compare.shared_start import shared_start, shared_variables
from mrpo.driver import fork_client, ray_node
from mrpo.driver.fork_client import ENV
from mrpo.driver.fork_server import ForkServer
from mrpo.driver.private_folder import PrivateFolder
from mrpo.driver.ray_node import SharedNode

pytestmark = pytest.mark.unit

GRID = ["recipe=quickstart", "trainer.device=cpu", "seed=0,1"]


def planned(out: Path, *more: str) -> list[sweep.Planned]:
    return sweep.plan(cells_of([*GRID, *more]), out, None)


def test_variables_are_those_of_every_cell_but_for_its_folder(tmp_path: Path) -> None:
    found = shared_variables(planned(tmp_path, "trainer.logger=[tensorboard,wandb]"))
    assert found is not None
    assert found["VERL_PLATFORM"] == "cpu"
    assert "OMP_NUM_THREADS" in found
    assert found["MRPO_ROLLOUT_THREADS"] == "1"  # as the recipe says, however many cores there are
    assert not any(str(tmp_path) in value for value in found.values())
    assert not (tmp_path / sweep.CELLS).exists()


@pytest.mark.parametrize(
    "more",
    [
        ("rollout.cpu_threads=1,2",),
        ("trainer.fork_workers=false",),
        ("trainer.ray=join",),
    ],
)
def test_cells_that_import_differently_or_not_at_all_share_nothing(
    more: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    assert shared_variables(planned(tmp_path, *more)) is None


def test_a_last_cell_imports_for_itself(tmp_path: Path) -> None:
    assert shared_variables(planned(tmp_path)[:1]) is None


JOIN = """
import os, shlex, sys
from pathlib import Path
import ray
from mrpo.driver.fork_server import ForkServer
from mrpo.driver.private_folder import PrivateFolder
from mrpo.driver.ray_node import SharedNode

private, node = PrivateFolder(), SharedNode.found()
libraries = ["ray._private.workers.default_worker", "wave"]
server = ForkServer(private.path, private.path / "log", {}, ["json"], libraries)
node.join({"py_executable": shlex.quote(str(server.executable))})
server.join_ray(ray.get_runtime_context().get_job_id(), node.raylet)

def who():
    found = "wave" in sys.modules, ray.get_runtime_context().get_job_id()
    return *found, os.environ.get("RAY_ADDRESS"), os.read(0, 1)

forked, job, another_ray, read = ray.get(ray.remote(num_cpus=1)(who).remote())
assert job == ray.get_runtime_context().get_job_id()
assert forked
assert another_ray is None
assert read == b""
print(job, ray.get_runtime_context().gcs_address, int(ray.cluster_resources()["GPU"]), os.path.dirname(node.token))
server.stop()
ray.shutdown()
private.remove()
"""
"""What a run does to have workers: each is forked by its own server, and belongs to its own job; it hears of no other
Ray, and a program that it starts waits for no input."""


def of_raylet(name: str) -> list[psutil.Process]:
    node = SharedNode.found()
    assert node is not None
    return [process for process in psutil.Process(node.raylet).children() if process.cmdline()[0].startswith(name)]


def test_while_entered_commands_find_the_libraries_imported_and_are_jobs_of_one_ray(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(ENV, raising=False)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    monkeypatch.setattr(module, "ForkServer", partial(ForkServer, before_ray=["colorsys"]))
    before = dict(os.environ)
    with shared_start(planned(tmp_path, "rollout.replicas=1"), tmp_path / "log") as shared:
        assert shared
        imported = [sys.executable, "-S", fork_client.__file__, "-c", "import sys; print('colorsys' in sys.modules)"]
        assert subprocess.run(imported, capture_output=True, text=True, check=True).stdout == "True\n"
        said = [subprocess.run([sys.executable, "-c", JOIN], capture_output=True, text=True, check=False) for _ in "ab"]
        (agent,) = of_raylet("ray::DashboardAgent")
        assert not [one for one in agent.net_connections() if one.status == psutil.CONN_LISTEN]
        changed = {name for name in {*os.environ, *before} if os.environ.get(name) != before.get(name)}
        assert changed == {ENV, ray_node.ENV}
    assert all(one.returncode == 0 for one in said), said
    (first, *where), (second, *where_too) = (one.stdout.split() for one in said)
    assert first != second
    assert where == where_too
    assert where[1] == str(planned(tmp_path)[0].checked.config.ranks + 1)
    assert os.environ == before
    assert not Path(where[2]).exists()


def test_what_is_printed_before_a_node_says_where_it_is_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a stand-in for the node's process, which goes on a moment when it is told to end: it is waited for."""
    node = json.dumps(SharedNode("127.0.0.1:1", "token", 1, 0.0)._asdict())
    ended = tmp_path / "ended"
    program = [f"#!{sys.executable}", "import sys, time", f"print('a notice', 5, {node!r}, sep='\\n', flush=True)"]
    program += ["sys.stdin.read()", "time.sleep(0.3)", f"open({str(ended)!r}, 'w').close()"]
    stand_in = tmp_path / "python"
    stand_in.write_text("\n".join(program))
    stand_in.chmod(0o700)
    private = PrivateFolder(tmp_path)

    def interrupted() -> None:
        with ray_node.shared_node(private, {}, {}, tmp_path / "log"):
            assert os.environ[ray_node.ENV].strip() == node
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", str(stand_in))
        with pytest.raises(KeyboardInterrupt):
            interrupted()
    assert ended.exists()
    assert ray_node.ENV not in os.environ
    private.remove()


def test_a_node_that_has_ended_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, subprocess.Popen(["sleep", "60"]) as process:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        node = SharedNode(address, "token", process.pid, psutil.Process(process.pid).create_time())

        def found(**changes: object) -> SharedNode | None:
            monkeypatch.setenv(ray_node.ENV, json.dumps(node._replace(**changes)._asdict()))  # type: ignore[arg-type]
            return SharedNode.found()

        assert found() == node
        monkeypatch.setenv(ray_node.ENV, "a notice")
        assert SharedNode.found() is None
        assert found(address="127.0.0.1:1") is None
        assert found(raylet=os.getpid()) is None  # its number is another process's now
        process.kill()
        while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        assert found() is None
        process.wait()
        assert found() is None
    monkeypatch.delenv(ray_node.ENV)
    assert SharedNode.found() is None
