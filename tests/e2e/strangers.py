"""Send strangers to a run: another user of this host, and one of another host (a network namespace)."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).with_name("stranger.py")
NOBODY = "65534"
AS_NOBODY = ("setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups")
ASK_NOBODY = {"WorkerDict", "CheckpointEngineWorker", "fork_server"}
"""Whose stores and gloo let anybody of this machine in, as docs/security.md says: bytes could disturb the run."""


def visit(private: Path, run: Path, ports: Sequence[tuple[str, int]], pids: Sequence[int]) -> dict[str, Any]:
    """What each of the two achieved; or why he couldn't be played here."""
    mark = Path(f"/tmp/stranger-{os.getpid()}")
    seen = {"private": str(private), "run": str(run), "ports": list(ports), "pids": list(pids)}
    seen |= {"open": sorted(ASK_NOBODY), "mark": str(mark)}
    try:
        return {"user": of_this_host(seen), "network": of_another_host(seen)}
    finally:
        mark.unlink(missing_ok=True)


def of_this_host(seen: dict[str, Any]) -> dict[str, Any]:
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        return {"skipped": "plays another user, which takes root and setpriv"}
    return _run(AS_NOBODY, seen | {"host": "127.0.0.1"})


def of_another_host(seen: dict[str, Any]) -> dict[str, Any]:
    try:
        with cable() as (host, enter), socket.create_server((host, 0)) as server:
            control = ("control", server.getsockname()[1])
            found = _run((*enter, *AS_NOBODY), seen | {"host": host, "ports": [*seen["ports"], control]})
    except (OSError, subprocess.CalledProcessError) as error:
        return {"skipped": f"no network namespace with a cable to this one can be made here: {error}"}
    if "skipped" not in found:
        reached = f"control is reached at {host}:{control[1]}"
        found["reaches_the_host"] = reached in found["breaches"]
        found["breaches"] = [breach for breach in found["breaches"] if breach != reached]
    return found


@contextmanager
def cable() -> Iterator[tuple[str, list[str]]]:
    """A network namespace that is joined to this one: this side's address, and the command that goes to the other."""
    name, net = f"mrpo{os.getpid()}", f"10.213.{os.getpid() % 250}"
    other = subprocess.Popen(["unshare", "-n", "sh", "-c", "echo made; exec sleep 300"], stdout=subprocess.PIPE)
    enter = ["nsenter", "-t", str(other.pid), "-n"]
    try:
        assert other.stdout is not None
        if other.stdout.readline() != b"made\n":
            raise OSError("unshare -n is refused")
        for command in (
            f"ip link add {name}a type veth peer name {name}b netns {other.pid}",
            f"ip addr add {net}.1/24 dev {name}a",
            f"ip link set {name}a up",
            f"{' '.join(enter)} ip addr add {net}.2/24 dev {name}b",
            f"{' '.join(enter)} ip link set {name}b up",
        ):
            subprocess.run(command.split(), check=True, capture_output=True, timeout=60)
        yield f"{net}.1", enter
    finally:
        other.kill()
        other.wait()
        subprocess.run(["ip", "link", "del", f"{name}a"], capture_output=True, check=False)


def _run(how: Sequence[str], given: dict[str, Any]) -> dict[str, Any]:
    command = [*how, sys.executable, "-I", str(SCRIPT), json.dumps(given)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, cwd="/")
    if done.returncode != 0:
        return {"skipped": f"the other user can't run this Python or script: {done.stderr[-500:]}"}
    return dict(json.loads(done.stdout))
