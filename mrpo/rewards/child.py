"""The process that a reward function runs in: reads calls from a socket, answers with plain outcomes.

Run as ``python -m mrpo.rewards.child FD PARENT``. Frames on the socket are a call's number, the body's length, the
body. The first frame in is the ``Task``, pickled; then come calls, pickled ``(prompt, response, ground_truth, extra)``.
The first frame out is ``Loaded`` as JSON; then answers ``[score, failure]`` as JSON, so that nothing a function returns
is ever unpickled by the parent. The parent sends a sync function's next call after the last one's answer; an async
one's calls run concurrently. Kept cheap to import, since a hang costs one such process.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import mmap
import os
import pickle
import resource
import signal
import socket
import struct
import sys
import time
import traceback
from pathlib import Path
from typing import Any, NoReturn, TypedDict

from mrpo.errors import ConfigError
from mrpo.rewards.function import RewardFunction, bind, find, is_async
from mrpo.rewards.outcome import Outcome

HEADER = struct.Struct("!QI")
"""A frame's number and the length of its body in bytes."""
CONCURRENCY = 64
"""Calls of an async function that run at once, unless it has a ``concurrency`` of its own."""


OWN = os.getpid()
LONGEST_ERROR = 4000
"""Characters that are told of an error in loading."""


class Task(TypedDict):
    """What the process is for; the first frame in."""

    function: str
    folder: str
    options: dict[str, Any]
    key: str
    range: tuple[float, float] | None
    timeout: float
    """Seconds a call."""
    memory: float | None
    """GiB that the process may allocate."""
    pythonpath: str | None
    """The variable's value in the parent: this process got one that equals the parent's ``sys.path``."""


class Loaded(TypedDict):
    """How loading went; the first frame out."""

    error: str | None
    concurrency: int
    """Most calls at once; 1 for a sync function."""
    rate: float | None
    """Most calls begun per second; None: any number."""


def frame(number: int, body: bytes) -> bytes:
    return HEADER.pack(number, len(body)) + body


def _answer(number: int, outcome: Outcome) -> bytes:
    if os.getpid() != OWN:  # a copy that the function forked and let return
        os._exit(0)
    return frame(number, json.dumps([outcome.score, outcome.failure]).encode())


def _read(calls: io.BufferedIOBase) -> tuple[int, bytes]:
    header = calls.read(HEADER.size)
    if len(header) < HEADER.size:
        _leave()
    number, length = HEADER.unpack(header)
    return number, calls.read(length)


def main() -> None:
    descriptor, parent = int(sys.argv[1]), int(sys.argv[2])
    connection = socket.socket(fileno=descriptor)
    connection.set_inheritable(False)
    _die_with(parent)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # or a kill loses what was printed
    calls = io.BufferedReader(socket.SocketIO(connection, "r"), 1 << 16)
    task: Task = pickle.loads(_read(calls)[1])
    if task["pythonpath"] is None:
        os.environ.pop("PYTHONPATH", None)
    else:
        os.environ["PYTHONPATH"] = task["pythonpath"]
    try:
        if task["memory"] is not None:
            _limit_memory(int(task["memory"] * 2**30))
        target = find(task["function"], Path(task["folder"]))
    except BaseException as error:
        _refuse(connection, error)
    if is_async(target):
        import asyncio

        asyncio.run(_serve_async(target, task, connection, calls))
    else:
        _serve(target, task, connection, calls)


def _serve(target: Any, task: Task, connection: socket.socket, calls: io.BufferedIOBase) -> None:
    function = _bind(target, task, connection)
    while True:
        number, body = _read(calls)
        start = time.monotonic()
        try:
            outcome = Outcome.of(function(*pickle.loads(body)), task["key"], task["range"])
        except BaseException as error:  # sys.exit, too, ends the call and not the process
            outcome = Outcome.raised(error)
        if time.monotonic() - start > task["timeout"]:
            outcome = Outcome.late(task["timeout"])
        connection.sendall(_answer(number, outcome))


async def _serve_async(target: Any, task: Task, connection: socket.socket, calls: io.BufferedIOBase) -> None:
    import asyncio

    function = _bind(target, task, connection)
    loop = asyncio.get_running_loop()

    async def score(number: int, body: bytes) -> None:
        try:
            async with asyncio.timeout(task["timeout"]) as limit:
                outcome = Outcome.of(await function(*pickle.loads(body)), task["key"], task["range"])
        except BaseException as error:
            outcome = Outcome.late(task["timeout"]) if limit.expired() else Outcome.raised(error)
        writer.write(_answer(number, outcome))

    reader, writer = await asyncio.open_connection(sock=connection)
    running: set[asyncio.Task[None]] = set()
    while True:
        try:
            number, length = HEADER.unpack(await reader.readexactly(HEADER.size))
            body = await reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            _leave()
        running.add(one := loop.create_task(score(number, body)))
        one.add_done_callback(running.discard)


def _bind(target: Any, task: Task, connection: socket.socket) -> RewardFunction:
    try:
        function = bind(task["function"], target, task["options"])
        loaded = Loaded(
            error=None,
            concurrency=int(getattr(function, "concurrency", CONCURRENCY)) if is_async(function) else 1,
            rate=None if (rate := getattr(function, "rate", None)) is None else float(rate),
        )
    except BaseException as error:
        _refuse(connection, error)
    connection.sendall(frame(0, json.dumps(loaded).encode()))
    return function


def _refuse(connection: socket.socket, error: BaseException) -> NoReturn:
    """Tell the parent why there's no function to call, in the last lines of the traceback, and leave."""
    lines = traceback.format_exception(error)[-3:]
    text = str(error) if isinstance(error, ConfigError) else "".join(lines).strip()
    loaded = Loaded(error=text[-LONGEST_ERROR:], concurrency=0, rate=None)
    connection.sendall(frame(0, json.dumps(loaded).encode()))
    _leave()


def _leave() -> NoReturn:
    """End at once: neither a thread nor an exit handler of the user's code may keep this process."""
    sys.stdout.flush()
    os._exit(0)


def _die_with(parent: int) -> None:
    """Be killed when the parent ends, and before it when memory runs out."""
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the call above
        _leave()
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _limit_memory(most: int) -> None:
    """Let this process allocate ``most`` bytes: of private memory, or, where the kernel takes that limit but doesn't
    enforce it, of address space."""
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    try:
        mmap.mmap(-1, most, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
    except (OSError, MemoryError):
        return
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


if __name__ == "__main__":
    main()
