"""Fork server: import torch, transformers, vLLM and verl once per node, then fork every Ray worker from that process.

A run starts a dozen processes, each of which would spend 7 to 9 s of CPU on the same imports; forked, they start in
milliseconds and share the imported pages. It imports before any thread of its own exists and never touches a device, so
that its children may. Owner: the process that started it (it dies with its owner, and its children die with it).

Ray's C++ library reads which job and which raylet it belongs to once, when it is loaded, so the server imports what
doesn't need Ray first, and the rest as soon as it is given the variables that Ray gives to its workers. A command that
trains several times imports the first half once: where it has a server of its own, the run's is forked from that.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import random
import runpy
import selectors
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NoReturn

from mrpo.driver.fork_client import ENV, peer
from mrpo.driver.private_folder import require_private

BEFORE_RAY = ("torch.distributed.fsdp", "transformers", "tensordict", "datasets", "peft", "vllm")
WITH_RAY = (
    "ray._private.workers.default_worker",  # first: what follows declares actor classes (``_ids_of_the_system``)
    "vllm.v1.engine.core",
    "vllm.v1.worker.cpu_worker",
    "verl.trainer.main_ppo",
    "verl.trainer.ppo.v1",
    "verl.workers.engine_workers",
    "verl.workers.rollout.vllm_rollout.vllm_async_server",
    "verl.workers.rollout.vllm_rollout.vllm_rollout",
)
PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Linux: this process is killed when its parent dies, so that nothing outlives a killed driver."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class ForkServer:
    """Handle of a running fork server: ``executable`` is what Ray shall start instead of ``python``.

    Args:
        folder: where that and the socket lie; nobody else may open it.
        log: gets what the server prints.
        variables: environment of the server, beside this process's.
        before_ray: modules to import at once.
        with_ray: modules to import once Ray is up.

    Raises:
        PermissionError: somebody else can open ``folder``.
    """

    def __init__(
        self,
        folder: Path,
        log: Path,
        variables: Mapping[str, str] | None = None,
        before_ray: Sequence[str] = BEFORE_RAY,
        with_ray: Sequence[str] = WITH_RAY,
    ):
        require_private(folder)
        self.address = folder / "fork.sock"
        self.executable = folder / "python"
        client = Path(__file__).with_name("fork_client.py")
        # With its own address: a Ray that was there before has another's in its environment, or none.
        address, python, program = (shlex.quote(str(path)) for path in (self.address, sys.executable, client))
        self.executable.write_text(f'#!/bin/sh\n{ENV}={address} exec {python} -S {program} "$@"\n')
        self.executable.chmod(0o700)
        self.above = os.environ.get(ENV)
        """The address of the server that this one is forked from, if there is one."""
        command = [sys.executable, *(["-S", str(client)] if self.above else []), "-m", __name__]
        with open(log, "ab") as out:
            self.process = subprocess.Popen(
                [*command, str(self.address), ",".join(before_ray), ",".join(with_ray)],
                stdin=subprocess.PIPE, stdout=out, stderr=out, start_new_session=True, preexec_fn=die_with_parent,
                env={**os.environ, **(variables or {})},
            )  # fmt: skip
        os.environ[ENV] = str(self.address)
        while not self.address.exists():  # bound before the imports: early clients wait in its queue
            if self.process.poll() is not None:
                raise RuntimeError(f"the fork server did not start; see {log}")
            time.sleep(0.01)

    def join_ray(self, job_id: str, raylet_pid: int) -> None:
        """Ray is up: import the rest, then serve. To be called once."""
        self.serve({"RAY_JOB_ID": job_id, "RAY_RAYLET_PID": str(raylet_pid)})

    def serve(self, variables: Mapping[str, str]) -> None:
        """Import the rest with these in the environment, then serve. To be called once."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(dict(variables)).encode() + b"\n")
        self.process.stdin.close()

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        os.environ.pop(ENV, None)
        if self.above is not None:
            os.environ[ENV] = self.above


def serve(address: str, before_ray: Sequence[str], with_ray: Sequence[str]) -> NoReturn:
    """Answer requests for ever, each with a forked child that becomes what was asked for."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(address)
    listener.listen(256)
    os.environ[ENV] = address  # verl's plugin looks for it as it is imported
    _import_modules(before_ray, with_ray)
    request = Forks(listener).request_of_this_child()
    become(request)


def _import_modules(before_ray: Sequence[str], with_ray: Sequence[str]) -> None:
    gc.disable()  # next to nothing of 8,000 modules is garbage, and looking for it takes a sixth of their imports
    for module in before_ray:
        importlib.import_module(module)
    assert "ray" not in sys.modules, "Ray was loaded before its job was known"
    os.environ.update(json.loads(sys.stdin.readline()))
    for module in with_ray:
        with _ids_of_the_system() if "ray" in sys.modules else nullcontext():
            importlib.import_module(module)
    threads = len(os.listdir("/proc/self/task"))
    print(f"fork server ready: {len(sys.modules)} modules, {threads} threads", flush=True)
    gc.collect()
    gc.enable()
    gc.freeze()  # children's collections must not touch, and so copy, the shared pages


@contextmanager
def _ids_of_the_system() -> Iterator[None]:
    """In which a declared actor class gets its id from the system. Ray draws it from a generator that is seeded once in
    a process, so that every child would go on with it and draw the ids of its siblings: of tasks, and so of objects."""
    actor: Any = importlib.import_module("ray.actor")
    kind = actor.ActorClassID
    actor.ActorClassID = types.SimpleNamespace(from_random=lambda: kind(os.urandom(kind.size())))
    try:
        yield
    finally:
        actor.ActorClassID = kind


class Forks:
    """The children that were forked, each with the connection to its proxy (``fork_client``), which waits for it."""

    def __init__(self, listener: socket.socket):
        self.listener = listener
        self.clients: dict[int, socket.socket] = {}
        """By the child's process id."""
        self.wake_read, self.wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self.wake_write, warn_on_full_buffer=False)  # an ended child wakes the selector
        self.selector = selectors.DefaultSelector()
        self.selector.register(listener, selectors.EVENT_READ)
        self.selector.register(self.wake_read, selectors.EVENT_READ)

    def request_of_this_child(self) -> dict[str, Any]:
        """Serve; in the server this never returns, in each child that it forks it returns the child's request."""
        while True:
            for key, _ in self.selector.select():
                if key.fileobj is self.listener:
                    request = self._fork()
                    if request is not None:
                        return request
                elif key.fileobj == self.wake_read:
                    self._report_exits()
                elif key.data in self.clients and isinstance(key.fileobj, socket.socket) and not key.fileobj.recv(1):
                    self.selector.unregister(key.fileobj)  # the proxy was killed, so the process it stands for is too
                    os.kill(key.data, signal.SIGKILL)

    def _fork(self) -> dict[str, Any] | None:
        """Accept a request and fork. Returns the request in the child, None in the server."""
        client, _ = self.listener.accept()
        if peer(client) != os.geteuid():
            client.close()
            return None
        try:
            request, files = _receive(client)
        except ConnectionError:  # the proxy was killed while it asked
            client.close()
            return None
        pid = os.fork()
        if pid == 0:
            self._leave(client)
            _install_files(files, request["files"])
            return request
        for file in files:
            os.close(file)
        self.clients[pid] = client
        try:
            client.sendall(f"{pid}\n".encode())
            self.selector.register(client, selectors.EVENT_READ, pid)
        except OSError:  # the proxy was killed while it waited, as Ray does after a minute: its process isn't wanted
            os.kill(pid, signal.SIGKILL)
        return None

    def _leave(self, client: socket.socket) -> None:
        """In a child: give up everything of the server's."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self.selector.close()
        for other in (self.listener, client, *self.clients.values()):
            other.close()
        os.close(self.wake_read)
        os.close(self.wake_write)

    def _report_exits(self) -> None:
        """Take leave of every child that has ended: one wake-up may stand for several."""
        os.read(self.wake_read, 4096)
        while self.clients:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            client = self.clients.pop(pid)
            if client.fileno() in self.selector.get_map():
                self.selector.unregister(client)
            _report_exit(client, os.waitstatus_to_exitcode(status))


def _report_exit(client: socket.socket, code: int) -> None:
    try:
        client.sendall(f"{code}\n".encode())
    except OSError:
        pass  # the proxy is gone: nobody waits for this exit code
    finally:
        client.close()


def _receive(client: socket.socket) -> tuple[dict[str, Any], list[int]]:
    header, files, _, _ = socket.recv_fds(client, 8, 253)
    size, body = int.from_bytes(header, "little"), b""
    while len(body) < size or not header:
        if not (more := client.recv(size - len(body))):
            raise ConnectionError("the request ends in the middle")
        body += more
    return json.loads(body), list(files)


def _install_files(received: list[int], wanted: list[int]) -> None:
    """Give the received descriptors the numbers they had in the client, as exec would have."""
    high = max([*received, *wanted]) + 1
    parked = [os.dup2(file, high + i, inheritable=False) for i, file in enumerate(received)]
    for file in received:
        os.close(file)
    for file, number in zip(parked, wanted, strict=True):
        os.dup2(file, number, inheritable=True)
        os.close(file)


def become(request: dict[str, Any]) -> NoReturn:
    """Run what ``python *argv`` would have run, in this forked process."""
    die_with_parent()
    os.setpgid(0, 0)  # Ray kills the process group of a worker that ended, which must not be everyone's
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    random.seed()
    tempfile.tempdir = None  # what an import asked for was the fork server's
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    if "torch" in sys.modules:  # its thread pool read the fork server's environment
        sys.modules["torch"].set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1))
    if "ray" in sys.modules:  # its C++ side read RAY_… (the authentication mode among them) in the fork server
        sys.modules["ray._raylet"].Config.initialize("")
    argv = request["argv"]
    while argv[0].startswith("-") and argv[0] not in ("-c", "-m"):  # interpreter flags, "-X name" and "-W name" too
        argv = argv[2:] if argv[0] in ("-X", "-W") else argv[1:]
    if argv[0] == "-c":
        sys.argv = ["-c", *argv[2:]]
        main = types.ModuleType("__main__")
        sys.modules["__main__"] = main
        exec(compile(argv[1], "<string>", "exec"), main.__dict__)
    elif argv[0] == "-m":
        sys.argv = argv[1:]
        runpy.run_module(argv[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = argv
        sys.path.insert(0, str(Path(argv[0]).parent))
        runpy.run_path(argv[0], run_name="__main__")
    sys.exit(0)


if __name__ == "__main__":
    serve(sys.argv[1], *(list(filter(None, modules.split(","))) for modules in sys.argv[2:4]))
