"""Sockets and shared memory where nobody else gets at them: verl 0.9.1, TransferQueue 0.1, vLLM to 0.28, Python 3.11.

verl's engines get new weights by pickle through ``/tmp/rl-colocate-zmq-<job>-replica-<n>-rank-<n>.sock``: whoever makes
that socket first on a shared machine would be unpickled. It goes to the temporary folder, which a run has to itself.
TransferQueue unpickles what reaches its TCP ports, from whomever. On one machine they become sockets in that folder,
too, named by the port, which stays reserved. Segments of shared memory (``psm_…``, ``verl_weights_…``) outlive a
process that is killed, and don't say whose they are: they get the run's prefix, by which the driver removes them.
"""

import os
import re
import secrets
import socket
import sys
import tempfile
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import zmq
import zmq.sugar.socket

from mrpo.driver.private_folder import SHARED_MEMORY

_LOOPBACK = re.compile(r"tcp://127\.0\.0\.1:([1-9]\d*)")
_RESERVED: list[socket.socket] = []
WEIGHTS_SOCKET, WEIGHTS_SEGMENT = "ipc:///tmp/rl-colocate-zmq-", "verl_weights_"


def apply() -> None:
    kind = zmq.sugar.socket.Socket
    for name in ("bind", "connect", "unbind", "disconnect"):
        setattr(kind, name, _elsewhere(getattr(kind, name), binds=name == "bind"))
    if prefix := os.environ.get(SHARED_MEMORY):
        _prefix_segments(prefix)


def _elsewhere(act: Any, binds: bool) -> Any:
    def at(self: Any, address: Any, *more: Any, **named: Any) -> Any:
        if isinstance(address, str) and address.startswith(WEIGHTS_SOCKET):
            address = address.replace("/tmp", tempfile.gettempdir(), 1)
        elif isinstance(address, str) and (port := _LOOPBACK.fullmatch(address)) and SHARED_MEMORY in os.environ:
            file = Path(tempfile.gettempdir(), f"port-{port[1]}")
            if binds and sys._getframe(1).f_globals["__name__"].startswith("transfer_queue."):
                _reserve(int(port[1]))
                address = f"ipc://{file}"
            elif not binds and file.exists():
                address = f"ipc://{file}"
        return act(self, address, *more, **named)

    return at


def _reserve(port: int) -> None:
    """Nobody gets this port while the process lives, nor connects to it. Raises ZMQError if somebody has it."""
    reserved = socket.socket()
    try:
        reserved.bind(("127.0.0.1", port))
    except OSError as error:
        raise zmq.ZMQError(error.errno) from error
    _RESERVED.append(reserved)


def _prefix_segments(prefix: str) -> None:
    plain = SharedMemory.__init__

    def named(self: SharedMemory, name: str | None = None, create: bool = False, size: int = 0) -> None:
        if name is None and create:
            name = f"{prefix}-{secrets.token_hex(8)}"
        elif name is not None and name.startswith(WEIGHTS_SEGMENT):
            name = f"{prefix}-{name}"
        plain(self, name, create, size)

    SharedMemory.__init__ = named  # type: ignore[method-assign]
