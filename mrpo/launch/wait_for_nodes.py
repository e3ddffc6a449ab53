"""``python -m mrpo.launch.wait_for_nodes``: wait until nodes have joined the Ray cluster whose head is on this machine.

Prints the cluster's address once all are there. If some are missing when the time is over, it prints their names
instead, says so on stderr, and exits with 1. The head's name comes first; without a head nobody knows of the others.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path

NODE_POLL_SECONDS = 0.5


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m mrpo.launch.wait_for_nodes", description="Wait for Ray's nodes.")
    parser.add_argument("--session", required=True, type=Path, help="the --temp-dir of ray start")
    parser.add_argument("--seconds", required=True, type=float, help="how long to wait")
    parser.add_argument("nodes", nargs="+", help="names, as given to ray start by --node-name; the head's first")
    options = parser.parse_args(argv)
    cluster = RayCluster(options.session)
    missing = wait(options.nodes, cluster.alive, options.seconds)
    if not missing:
        print(cluster.address)
        return 0
    print(",".join(missing))
    print(f"after {options.seconds:g} s these nodes have not joined Ray: {', '.join(missing)}", file=sys.stderr)
    return 1


def wait(nodes: list[str], alive: Callable[[], set[str] | None], seconds: float) -> list[str]:
    """Ask ``alive`` until it has all ``nodes``; returns those that are missing after ``seconds``.

    ``alive`` returns None while there is no head to ask; then only the head, the first node, is known to be missing.
    """
    deadline = time.monotonic() + seconds
    while True:
        found = alive()
        missing = nodes[:1] if found is None else [node for node in nodes if node not in found]
        if not missing or time.monotonic() >= deadline:
            return missing
        time.sleep(NODE_POLL_SECONDS)


class RayCluster:
    """The Ray cluster whose head keeps its session in a folder of this machine."""

    def __init__(self, session: Path):
        self.file = session / "ray_current_cluster"
        self.address = ""

    def alive(self) -> set[str] | None:
        """Names of the nodes that Ray's head counts as alive; None while it can't be asked."""
        import ray

        try:
            self.address = self.file.read_text().strip()
            if not ray.is_initialized():
                ray.init(self.address, log_to_driver=False, logging_level=logging.ERROR)
            return {node["NodeName"] for node in ray.nodes() if node["Alive"]}
        except (OSError, ValueError, RuntimeError):  # ConnectionError, the commonest, is an OSError
            return None


if __name__ == "__main__":
    sys.exit(main())
