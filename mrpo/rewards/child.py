"""The process that a reward function runs in: reads calls from a socket, answers with plain outcomes.

Forked by ``supervisor.py``, with the arguments FD and PARENT; what goes over the socket is in ``connection.py``. The
pool sends a sync function's next call after the last one's answer; an async one's calls run concurrently. Kept quick to
import, since a hang costs one such process.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import json
import mmap
import os
import pickle
import resource
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from mrpo.errors import ConfigError
from mrpo.rewards.connection import HEADER, MAX_ANSWER, Loaded, Task, frame
from mrpo.rewards.function import RewardFunction, find, is_async, load_function
from mrpo.rewards.outcome import Outcome

CONCURRENCY = 64
"""Calls of an async function that run at once, unless it has a ``concurrency`` of its own."""
MAX_ERROR = 4000
"""Characters of an error in loading that are reported, the last ones."""
KEPT = 4
"""Sets of scheduled options whose function, or object of a class, is kept."""
OWN = os.getpid()


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
        asynchronous = is_async(find(task["function"], Path(task["folder"])))
    except BaseException as error:
        _refuse(connection, error)
    if asynchronous:
        import asyncio

        # Nothing is lost in the buffer of ``calls``: the first call comes after ``Loaded`` was sent.
        asyncio.run(_serve_async(task, connection))
    else:
        _serve(task, connection, calls)


def _serve(task: Task, connection: socket.socket, calls: io.BufferedIOBase) -> None:
    function = _load(task, connection)
    while True:
        number, body = _read(calls)
        start = time.monotonic()
        try:
            arguments, options = _call(task, body)
            outcomes = _outcomes(task, arguments, function(options)(*arguments))
        except BaseException as error:  # sys.exit, too, ends the call and not the process
            outcomes = [Outcome.raised(error)]
        if time.monotonic() - start > task["timeout"]:
            outcomes = [Outcome.late(task["timeout"])]
        connection.sendall(_answer(number, outcomes))


async def _serve_async(task: Task, connection: socket.socket) -> None:
    import asyncio

    function = _load(task, connection)  # in the loop, so that a class may use it as it is made

    async def score(number: int, body: bytes) -> None:
        try:
            async with asyncio.timeout(task["timeout"]) as limit:
                arguments, options = _call(task, body)
                outcomes = _outcomes(task, arguments, await function(options)(*arguments))
        except BaseException as error:
            outcomes = [Outcome.late(task["timeout"]) if limit.expired() else Outcome.raised(error)]
        writer.write(_answer(number, outcomes))

    reader, writer = await asyncio.open_connection(sock=connection)
    running: set[asyncio.Task[None]] = set()  # the loop itself holds its tasks only weakly
    while True:
        try:
            number, length = HEADER.unpack(await reader.readexactly(HEADER.size))
            body = await reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            _leave()
        running.add(one := asyncio.create_task(score(number, body)))
        one.add_done_callback(running.discard)


def _call(task: Task, body: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The function's arguments, and its scheduled options."""
    prompt, response, ground_truth, extra, *options = pickle.loads(body)
    return (prompt, response, ground_truth, extra), options[0] if options else task["scheduled"][-1]


def _outcomes(task: Task, arguments: tuple[Any, ...], returned: Any) -> list[Outcome]:
    if task["scope"] == "group":
        return Outcome.of_group(returned, len(arguments[1]), task["scores"])
    return Outcome.several(returned, task["scores"])


def _load(task: Task, connection: socket.socket) -> Callable[[Mapping[str, Any]], RewardFunction]:
    """Gives the function with its scheduled options, after the pool got to know how it may be called."""

    @functools.lru_cache(KEPT)
    def bound(*scheduled: tuple[str, Any]) -> RewardFunction:
        options = task["options"] | dict(scheduled)
        return load_function(task["function"], Path(task["folder"]), options, task["scope"])

    def function_with(options: Mapping[str, Any]) -> RewardFunction:
        return bound(*sorted(options.items()))

    try:
        function = [function_with(options) for options in task["scheduled"]][-1]
        concurrency = int(getattr(function, "concurrency", CONCURRENCY)) if is_async(function) else 1
        rate = None if (given := getattr(function, "rate", None)) is None else float(given)
        if concurrency < 1 or (rate is not None and not rate > 0):
            raise ConfigError(f"concurrency, rate: given {concurrency}, {rate}, allowed: 1 or more, above 0.")
    except BaseException as error:
        _refuse(connection, error)
    loaded = Loaded(error=None, concurrency=concurrency, rate=rate)
    connection.sendall(frame(0, json.dumps(loaded).encode()))
    return function_with


def _refuse(connection: socket.socket, error: BaseException) -> NoReturn:
    """Report to the pool why there's no function to call, in the last lines of the traceback, and leave."""
    lines = traceback.format_exception(error)[-3:]
    text = str(error) if isinstance(error, ConfigError) else "".join(lines).strip()
    loaded = Loaded(error=text[-MAX_ERROR:], concurrency=0, rate=None)
    connection.sendall(frame(0, json.dumps(loaded).encode()))
    _leave()


def _read(calls: io.BufferedIOBase) -> tuple[int, bytes]:
    header = calls.read(HEADER.size)
    if len(header) < HEADER.size:
        _leave()
    number, length = HEADER.unpack(header)
    return number, calls.read(length)


def _answer(number: int, outcomes: list[Outcome]) -> bytes:
    """``outcomes``: one a response and reward, or a single failure of all of them."""
    if os.getpid() != OWN:  # a copy that the function forked and let return
        os._exit(0)
    body = json.dumps([[one.score, one.failure, one.details] for one in outcomes]).encode()
    if len(body) > MAX_ANSWER:  # the details of a large group
        body = json.dumps([[one.score, one.failure, ""] for one in outcomes]).encode()
    return frame(number, body)


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


def _limit_memory(limit: int) -> None:
    """Let this process allocate ``limit`` bytes: of private memory, or, where the kernel takes that limit but doesn't
    enforce it, of address space."""
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    try:
        mmap.mmap(-1, limit, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
    except (OSError, MemoryError):
        return
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
