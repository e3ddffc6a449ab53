"""``mrpo watch [RUN]``: follow a run, from any terminal."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from collections.abc import Callable, Sequence

from mrpo.errors import ConfigError
from mrpo.observe.live import GONE, watch
from mrpo.record.phase import Phase
from mrpo.record.run_folder import RunFolder


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0: the run is done, stopped or no longer watched; 1: it failed or is gone; 2: there is no such run."""
    parser = argparse.ArgumentParser(prog="mrpo watch", description="Show where a run stands, until it ends.")
    parser.add_argument("run", nargs="?", help="a run's folder, or its name under RUNS (default: the latest)")
    parser.add_argument("--runs", default="runs", help="where runs lie (default: %(default)s)")
    options = parser.parse_args(argv)
    try:
        folder = RunFolder.find(options.run, options.runs)
    except ConfigError as error:
        print(f"mrpo watch: {error}", file=sys.stderr)
        return 2
    try:
        outcome = watch(folder, liveness(folder))
    except KeyboardInterrupt:
        return 0
    if outcome == GONE:
        print(f"The run's process is gone without a word. Logs: {folder.logs}", file=sys.stderr)
    return 0 if outcome in (Phase.DONE, Phase.STOPPED) else 1


def liveness(folder: RunFolder) -> Callable[[], bool]:
    """Whether the process that announced the run's plan still exists.

    Before a plan, or from another host, nobody can tell; then the run counts as alive.
    """
    tail, writer = folder.tail_events(), [("", 0)]

    def is_alive() -> bool:
        for event in tail.poll():
            if event["phase"] == Phase.PLAN:
                writer[0] = (event.get("host", ""), event.get("pid", 0))
        host, pid = writer[0]
        if host != socket.gethostname() or not pid:
            return True
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True

    return is_alive
