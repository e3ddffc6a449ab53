"""On one machine rows and weights come through files in the run's own folder, and shared memory says whose it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

CODE = """
import socket, sys, os, types, psutil, zmq
from multiprocessing.shared_memory import SharedMemory
from mrpo.verl_seam.patches import private_names
private_names.apply()

free = socket.socket(); free.bind(("", 0)); port = free.getsockname()[1]; free.close()
context, address = zmq.Context(), f"tcp://127.0.0.1:{port}"
ours, client, handle = context.socket(zmq.REP), context.socket(zmq.REQ), context.socket(zmq.PAIR)
queue = types.ModuleType("transfer_queue.controller")
exec("def bind(socket, address): socket.bind(address)", queue.__dict__)
queue.bind(ours, address)
client.connect(address)
client.send(b"row")
print(ours.recv())
handle.bind("ipc:///tmp/rl-colocate-zmq-01000000-replica-0-rank-0.sock")
print(sorted(os.listdir(os.environ["TMPDIR"])) == [f"port-{port}", "rl-colocate-zmq-01000000-replica-0-rank-0.sock"])
print([c.laddr.port for c in psutil.Process().net_connections("tcp") if c.status == "LISTEN"])
try:
    queue.bind(context.socket(zmq.REP), address)
except zmq.ZMQError as error:
    print(error)
theirs = context.socket(zmq.REP)
print(theirs.bind_to_random_port("tcp://127.0.0.1") in
    [c.laddr.port for c in psutil.Process().net_connections("tcp") if c.status == "LISTEN"])
one, other = SharedMemory(create=True, size=8), SharedMemory("verl_weights_x", create=True, size=8)
print([name.rpartition("-")[0] for name in (one.name, other.name)], SharedMemory("verl_weights_x").size >= 8)
for each in (one, other):
    each.close(), each.unlink()
"""


def test_what_would_be_open_to_others_is_in_the_private_folder(tmp_path: Path) -> None:
    folder = tmp_path.parent / "t"  # short: sockets lie in it
    folder.mkdir()
    environment = os.environ | {"TMPDIR": str(folder), "MRPO_SHARED_MEMORY": "mrpo-abc"}
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.splitlines() == [
        "b'row'",
        "True",
        "[]",
        "Address already in use",
        "True",
        "['mrpo-abc', 'mrpo-abc'] True",
    ], done.stderr
