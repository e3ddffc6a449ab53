"""``python -m mrpo.launch.pre_stop head|worker``: what a pod does before Kubernetes ends it.

The head asks ``mrpo train`` to save and waits for its end. Workers, which the save needs, wait until the head is gone.
Kubernetes ends both after the pod's grace period in any case.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable

import psutil

STOP_POLL_SECONDS = 1.0


def main(argv: list[str]) -> int:
    seconds = float(os.environ["MRPO_GRACE_SECONDS"])
    if argv == ["head"]:
        runs = training_processes()
        for process in runs:
            process.send_signal(signal.SIGUSR1)  # Ray's own stop sends a SIGTERM: this must not be its second
        return int(bool(psutil.wait_procs(runs, timeout=seconds)[1]))
    host, port = os.environ["FQ_RAY_IP"], int(os.environ["RAY_PORT"])
    return int(not until(lambda: not answers(host, port), seconds))


def training_processes() -> list[psutil.Process]:
    """Processes that run ``mrpo train``, by their arguments: shells that only mention it are none."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        arguments = [os.path.basename(argument) for argument in process.info["cmdline"] or []]
        if "mrpo" in arguments[:2] and arguments[arguments.index("mrpo") + 1 :][:1] == ["train"]:
            found.append(process)
    return found


def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether the condition came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(STOP_POLL_SECONDS)
    return True


def answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=STOP_POLL_SECONDS).close()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
