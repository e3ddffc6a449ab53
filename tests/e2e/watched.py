"""``mrpo`` run as a user would, and what its processes listen on and leave, noted down while it runs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from .strangers import visit

SAMPLE_SECONDS = 1.0
VISITED = {
    *("gcs_server", "raylet", "Controller", "TransferQueueController", "SimpleStorageUnit"),
    *("vLLMHttpServer", "WorkerDict", "SeededAgentLoopWorker", "RewardLoopWorker", "GlobalRequestLoadBalancer"),
}


def run_watched(
    command: list[str], notes: Path, timeout: float, visited: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``command`` with a temporary folder of its own. ``notes``, as JSON: ``listening`` (pairs of process and
    address), ``private`` (modes of the folder that its processes share), ``left`` (what is left of it afterwards), and
    ``strangers`` (``strangers.visit``, once, when all that ``VISITED`` names listen) if ``visited``, its run folder,
    is given."""
    strangers: dict[str, Any] = {}
    listening: set[tuple[str, str]] = set()
    modes: set[str] = set()
    temporary = Path(tempfile.mkdtemp(prefix="e2e $-", dir="/tmp"))  # short, as sockets lie in it
    output = notes.with_suffix(".out")
    with open(output, "wb") as out:
        environment = {**psutil.Process().environ(), "TMPDIR": str(temporary)}
        process = subprocess.Popen(command, stdout=out, stderr=out, env=environment)
        deadline = time.monotonic() + timeout
        names: set[str] = set()
        while process.poll() is None:
            assert time.monotonic() < deadline, output.read_text()[-3000:]
            now = _listening(process.pid)
            listening |= {(name, address) for name, address, _ in now}
            if visited is not None and not strangers and {name for name, _, _ in now} >= VISITED:
                (private,) = temporary.glob("mrpo-*")
                tree = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
                strangers = visit(private, visited, sorted({(name, port) for name, _, port in now}), tree)
            for folder in temporary.glob("mrpo-*"):
                modes.add(oct(folder.stat().st_mode))
                names.add(folder.name)
            time.sleep(SAMPLE_SECONDS)
    left = [path.name for path in temporary.rglob("*")]
    left += [path.name for name in names for path in Path("/dev/shm").glob(f"{name}-*")]
    shutil.rmtree(temporary)
    found = {"listening": sorted(listening), "private": sorted(modes), "left": left, "strangers": strangers}
    notes.write_text(json.dumps(found))
    return subprocess.CompletedProcess(command, process.returncode, output.read_text(), "")


def _listening(pid: int) -> set[tuple[str, str, int]]:
    found = set()
    try:
        tree = psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return set()
    for process in tree:
        try:
            sockets = process.net_connections("tcp")
            arguments = process.cmdline()
        except psutil.Error:
            continue
        if not arguments:  # it is ending: its memory is gone, its sockets aren't yet
            continue
        name = label(arguments)
        found |= {
            (name, socket.laddr.ip, socket.laddr.port) for socket in sockets if socket.status == psutil.CONN_LISTEN
        }
    return found


def label(arguments: list[str]) -> str:
    """What a process is called in docs/security.md: an actor's class, or a program's name.

    >>> label(["ray::WorkerDict.update"]), label(["ray::reward_loop_worker_0:RewardLoopWorker.__init__"])
    ('WorkerDict', 'RewardLoopWorker')
    >>> label(["ray::abcWorkerDict_0:0:WorkerDict.__init__"])  # an actor's own name has a colon
    'WorkerDict'
    >>> label(["/lib/gcs_server", "-x"]), label(["python3", "-m", "a.fork_server"])
    ('gcs_server', 'fork_server')
    """
    first = arguments[0] if arguments else ""
    if actor := re.match(r"ray::(?:.*:)?(\w+)", first):
        return actor[1]
    modules = [re.split(r"[./]", a.removesuffix(".py"))[-1] for a in arguments[1:4] if not a.startswith("-")]
    return modules[0] if Path(first).name.startswith("python") and modules else Path(first).name
