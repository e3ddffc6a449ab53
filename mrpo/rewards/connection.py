"""What a pool and its processes say to each other, and the pool's end of the line.

A frame is a call's number, the body's length, the body. Frame 0 opens either direction: the ``Task``, pickled, towards
the process, and ``Loaded`` as JSON back. Then come calls, pickled ``(prompt, response, ground_truth, extra)``, behind
which are the scheduled options of this call where there are any, and answers ``[[score, failure, details], …]`` as
JSON, so that nothing that a reward function returns is ever unpickled by the pool.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:  # the process that scores imports this module, and asyncio only for an async function
    import asyncio

HEADER = struct.Struct("!QI")
"""A frame's number and the length of its body in bytes."""
MAX_ANSWER = 1 << 20
"""Bytes of a frame from a process; more is garbage."""
READ = 1 << 18


class Task(TypedDict):
    """What a process is for."""

    function: str
    folder: str
    scope: str
    """What a call is about: a rollout, or a group of them."""
    options: dict[str, Any]
    scheduled: list[dict[str, Any]]
    """Further options, whose values may change from call to call: sets of them that must do, the last being that of a
    call that says none."""
    scores: list[tuple[str, tuple[float, float] | None]]
    """Key and range of each reward that it gives."""
    timeout: float
    """Seconds a call."""
    memory: float | None
    """GiB that the process may allocate."""
    pythonpath: str | None
    """The variable's value in the parent: the process got one that equals the parent's ``sys.path``."""


class Loaded(TypedDict):
    """How loading went."""

    error: str | None
    concurrency: int
    """Maximum of calls at once; 1 for a sync function."""
    rate: float | None
    """Maximum of calls begun per second; None: any number."""


def frame(number: int, body: bytes) -> bytes:
    return HEADER.pack(number, len(body)) + body


class Connection:
    """The pool's end of a socket pair, in the event loop ``loop``, which calls ``readable`` when there is something."""

    def __init__(self, ours: socket.socket, loop: asyncio.AbstractEventLoop, readable: Callable[[], None]):
        ours.setblocking(False)
        self.socket, self.loop = ours, loop
        self.closed = False
        """By either end. Nothing more arrives."""
        self._incoming, self._outgoing = bytearray(), bytearray()
        loop.add_reader(ours, readable)

    def send(self, number: int, body: bytes) -> None:
        # Calls mostly come in bursts: one flush at the end of the loop's turn makes a burst one system call.
        if not self._outgoing:
            self.loop.call_soon(self._flush)
        self._outgoing += frame(number, body)

    def receive(self) -> Iterator[tuple[int, Any]]:
        """Each frame that has arrived by now, once.

        Raises:
            ValueError: what has arrived is no frame.
        """
        length = READ
        while length == READ and not self.closed:  # a shorter read has emptied the socket
            try:
                data = self.socket.recv(READ)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            self._incoming += data
            length = len(data)
            if not data:
                self.closed = True
                self.loop.remove_reader(self.socket)
        while len(self._incoming) >= HEADER.size:
            number, length = HEADER.unpack_from(self._incoming)
            if length > MAX_ANSWER:
                raise ValueError(f"an answer of {length} bytes")
            stop = HEADER.size + length
            if len(self._incoming) < stop:
                break
            body = self._incoming[HEADER.size : stop]
            del self._incoming[:stop]
            yield number, json.loads(body)

    def close(self) -> None:
        self.closed = True
        self.loop.remove_reader(self.socket)
        self.loop.remove_writer(self.socket)
        self._outgoing.clear()
        self.socket.close()

    def _flush(self) -> None:
        if not self._outgoing:  # it was closed before its turn came
            return
        try:
            del self._outgoing[: self.socket.send(self._outgoing)]
        except BlockingIOError:
            pass
        except OSError:  # closed at the other end; whether the process has ended, too, is noticed elsewhere
            self._outgoing.clear()
        if self._outgoing:
            self.loop.add_writer(self.socket, self._flush)
        else:
            self.loop.remove_writer(self.socket)
