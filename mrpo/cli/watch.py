"""Follow a run until it ends, from any terminal."""

from __future__ import annotations

import socket
from collections.abc import Callable

from mrpo.cli._app import RunName, Runs, examples, new_app
from mrpo.errors import MrpoError
from mrpo.exit_code import ExitCode
from mrpo.observe.live import GONE
from mrpo.observe.live import watch as show_until_end
from mrpo.process import is_alive
from mrpo.record.phase import Phase
from mrpo.record.run_folder import RunFolder

app = new_app()


@app.command(help=__doc__, epilog=examples("mrpo watch", "mrpo watch runs/mine"))
def watch(run: RunName = None, runs: Runs = "runs") -> ExitCode:
    folder = RunFolder.find(run, runs)
    try:
        outcome = show_until_end(folder, liveness(folder))
    except KeyboardInterrupt:
        return ExitCode.DONE
    if outcome == GONE:
        raise MrpoError(f"the run's process ended without an event that says so. Logs: {folder.logs}")
    return ExitCode.DONE if outcome in (Phase.DONE, Phase.STOPPED) else ExitCode.FAILED


def liveness(folder: RunFolder) -> Callable[[], bool]:
    """Whether the process that announced the run's plan still exists.

    Before a plan, or from another host, nobody can tell; then the run counts as alive.
    """
    tail, writer = folder.tail_events(), [("", 0)]

    def alive() -> bool:
        for event in tail.poll():
            if event["phase"] == Phase.PLAN:
                writer[0] = (event.get("host", ""), event.get("pid", 0))
        host, pid = writer[0]
        return host != socket.gethostname() or not pid or is_alive(pid)

    return alive
