"""A forked process is what the interpreter would have been: arguments, environment, files, exit code, signals."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing import spawn
from pathlib import Path

import pytest

from mrpo.driver import fork_client
from mrpo.driver.fork_client import ENV
from mrpo.driver.fork_server import ForkServer

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What a fork server with light imports hands out as ``python``."""
    folder = tmp_path_factory.mktemp("$HOME `id` '\"")  # as a TMPDIR may be called
    server = ForkServer(folder, folder / "log", before_ray=["json"], with_ray=["numpy"])
    server.join_ray("01000000", os.getpid())
    yield str(server.executable)
    server.stop()


def run(python: str, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([python, *arguments], capture_output=True, text=True, timeout=20, check=False, **options)  # type: ignore[call-overload]


def test_code_runs_with_the_imports_done(python: str) -> None:
    done = run(python, "-c", "import sys; print('numpy' in sys.modules, sys.argv)", "x")
    assert done.stdout == "True ['-c', 'x']\n"


def test_garbage_is_collected_again_after_the_imports(python: str) -> None:
    assert run(python, "-c", "import gc; print(gc.isenabled())").stdout == "True\n"


def test_siblings_draw_ids_of_their_own_though_the_server_has_imported_an_actor_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two tasks with one id, one would find the other's objects in Ray's store."""
    monkeypatch.delenv(ENV, raising=False)
    (tmp_path / "with_actor.py").write_text("import ray\n\n@ray.remote\nclass Actor:\n    pass\n")
    folder = tmp_path / "fork"
    folder.mkdir(mode=0o700)
    path = {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    server = ForkServer(folder, tmp_path / "log", path, before_ray=["json"], with_ray=["ray", "with_actor"])
    try:
        server.join_ray("01000000", os.getpid())
        draw = (
            "import ray, with_actor; print(ray._raylet.WorkerID.from_random().hex(), ray.ActorClassID.nil().is_nil())"
        )
        drawn = [run(str(server.executable), "-c", draw).stdout for _ in range(2)]
    finally:
        server.stop()
    assert all(one.endswith(" True\n") for one in drawn), drawn
    assert drawn[0] != drawn[1]


def test_a_script_gets_arguments_environment_and_directory(python: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import os, sys; print(__name__, sys.argv[1:], os.environ['MARK'], os.getcwd())")
    done = run(python, "-u", str(script), "a", "b", env=os.environ | {"MARK": "m"}, cwd=tmp_path)
    assert done.stdout == f"__main__ ['a', 'b'] m {tmp_path}\n"


def test_it_asks_its_own_server_whatever_the_environment_says(python: str, tmp_path: Path) -> None:
    """A Ray that runs share has the environment of another server."""
    elsewhere = os.environ | {ENV: str(tmp_path / "fork.sock")}
    done = run(python, "-c", f"import os, sys; print('numpy' in sys.modules, os.environ['{ENV}'])", env=elsewhere)
    assert done.stdout == f"True {Path(python).with_name('fork.sock')}\n"


def test_exit_codes_and_tracebacks_come_back(python: str) -> None:
    assert run(python, "-c", "import sys; sys.exit(7)").returncode == 7
    done = run(python, "-c", "raise ValueError('here')")
    assert done.returncode == 1
    assert "ValueError: here" in done.stderr


def test_a_terminated_process_dies_by_the_signal(python: str) -> None:
    process = subprocess.Popen(
        [python, "-c", "print(1, flush=True); import time; time.sleep(60)"], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.terminate()
    assert process.wait(10) == -signal.SIGTERM


def test_killing_the_proxy_kills_the_process_behind_it(python: str) -> None:
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    process = subprocess.Popen([python, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    behind = int(process.stdout.readline())
    process.kill()
    process.wait(10)
    deadline = time.monotonic() + 10
    while Path(f"/proc/{behind}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{behind}").exists()
    assert run(python, "-c", "print('still served')").stdout == "still served\n"


def test_proxies_that_are_killed_while_the_server_is_busy_leave_it_serving(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Ray does with workers that are slow to start: one had sent its request, one only a part of it."""
    monkeypatch.delenv(ENV, raising=False)  # it isn't forked from the server of the other tests
    server = ForkServer(tmp_path, tmp_path / "log", before_ray=["json"], with_ray=["numpy"])
    try:
        server.join_ray("01000000", os.getpid())
        assert run(str(server.executable), "-c", "print('served')").stdout == "served\n"
        server.process.send_signal(signal.SIGSTOP)
        impatient = subprocess.Popen([str(server.executable), "-c", "print('never')"])
        with socket.socket(socket.AF_UNIX) as torn:
            torn.connect(str(server.address))
            socket.send_fds(torn, [(1000).to_bytes(8, "little")], [0])
        time.sleep(1)
        impatient.kill()
        impatient.wait(10)
        server.process.send_signal(signal.SIGCONT)
        assert run(str(server.executable), "-c", "print('still served')").stdout == "still served\n"
        assert server.process.poll() is None
    finally:
        server.stop()


def test_what_is_imported_knows_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else verl's plugin wouldn't have vLLM fork its engine from it."""
    monkeypatch.delenv(ENV, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "looks.py").write_text(f"import os\nseen = os.environ.get('{ENV}')")
    tmp_path.chmod(0o700)
    server = ForkServer(tmp_path, tmp_path / "log", before_ray=["json"], with_ray=["looks"])
    server.join_ray("01000000", os.getpid())
    try:
        assert run(str(server.executable), "-c", "import looks; print(looks.seen)").stdout == f"{server.address}\n"
    finally:
        server.stop()


def test_a_server_is_forked_from_one_that_has_imported_already(python: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    outer = os.environ[ENV]
    inner = ForkServer(tmp_path, tmp_path / "log", before_ray=["json"], with_ray=["colorsys"])
    inner.join_ray("02000000", 7)
    code = "import os, sys; print(*sorted({'numpy', 'colorsys'} & set(sys.modules)))"
    modules = run(str(inner.executable), "-c", f"{code}; print(os.environ['{ENV}'])").stdout.split()
    assert modules == ["colorsys", "numpy", str(inner.address)]  # numpy is the outer one's
    assert run(python, "-c", code, env=os.environ | {ENV: outer}).stdout.split() == ["numpy"]
    living = subprocess.Popen(
        [str(inner.executable), "-c", "import time; print(1, flush=True); time.sleep(60)"], stdout=subprocess.PIPE
    )
    assert living.stdout is not None
    living.stdout.readline()
    inner.stop()
    assert living.wait(10) != 0
    assert os.environ[ENV] == outer
    assert run(python, "-c", "print('still served')").stdout == "still served\n"


def test_each_process_has_a_group_of_its_own(python: str) -> None:
    code = "import os; print(os.getpid() == os.getpgid(0))"
    assert run(python, "-c", code).stdout == "True\n"


def test_children_draw_different_random_numbers(python: str) -> None:
    code = "import random, numpy; print(random.random(), numpy.random.rand())"
    assert run(python, "-c", code).stdout != run(python, "-c", code).stdout


def _answer(queue: multiprocessing.Queue[int], number: int) -> None:
    queue.put(number + 1)


def test_multiprocessing_spawns_through_it(python: str) -> None:
    context = multiprocessing.get_context("spawn")
    before = spawn.get_executable()
    multiprocessing.set_executable(python)
    try:
        queue: multiprocessing.Queue[int] = context.Queue()
        process = context.Process(target=_answer, args=(queue, 41))
        process.start()
        assert queue.get(timeout=20) == 42
        process.join(10)
        assert process.exitcode == 0
    finally:
        multiprocessing.set_executable(before)


def test_without_a_server_the_client_is_a_plain_interpreter(tmp_path: Path) -> None:
    nobody = os.environ | {ENV: str(tmp_path / "none.sock")}
    done = run(sys.executable, "-S", fork_client.__file__, "-c", "import sys; print(sys.argv)", "x", env=nobody)
    assert done.stdout == "['-c', 'x']\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="plays another user, which takes root")
def test_nothing_is_sent_to_a_server_of_somebody_else(tmp_path: Path) -> None:
    """The kernel says who answers: the user who made the socket listen, so that is done as a stranger, too."""
    code = (
        "import os, socket, sys; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1])\n"
        "os.setuid(65534); s.listen(); print(flush=True); c, _ = s.accept(); print(len(c.recv(1)), flush=True)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "fork.sock")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    with pytest.raises(PermissionError, match=r"fork\.sock is answered by user 65534"):
        fork_client.connect(str(tmp_path / "fork.sock"))
    assert process.stdout.readline() == "0\n"
    process.wait(10)


def test_nothing_is_sent_where_others_could_put_a_server(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    client = [sys.executable, "-S", fork_client.__file__]
    done = run(*client, "-c", "print('here')", env=os.environ | {ENV: str(tmp_path / "fork.sock")})
    assert done.returncode == 1
    assert f"fork server: {tmp_path} is not a folder that only this user can write" in done.stderr
    with pytest.raises(PermissionError):
        ForkServer(tmp_path, tmp_path / "log")


@pytest.mark.skipif(os.geteuid() != 0, reason="plays another user, which takes root")
def test_a_stranger_is_not_served(python: str) -> None:
    """Even one whom a mistaken mode lets in."""
    folder = Path(python).parent
    code = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); print(len(s.recv(1)))"
    stranger = ["setpriv", "--reuid=65534", "--inh-caps=-all", sys.executable, "-c", code, "fork.sock"]
    mode = folder.stat().st_mode
    try:
        for open_to_all in (folder, folder / "fork.sock"):
            open_to_all.chmod(0o777)
        done = subprocess.run(stranger, cwd=folder, capture_output=True, text=True, timeout=20, check=False)
    finally:
        folder.chmod(mode)
    assert done.stdout == "0\n", done.stderr
    assert run(python, "-c", "print('still served')").stdout == "still served\n"
