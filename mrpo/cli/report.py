"""Draw runs, finished or not, as one page that works offline.

Of one run, writes report.png, report_details.png and report.html into its folder. Of several, one page that lays their
curves over each other and holds the rollouts of all.

With --watch the page is served on this machine alone and follows the runs, until Ctrl-C.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from mrpo.cli._app import Runs, examples, new_app
from mrpo.cli._complete import complete_run
from mrpo.errors import usable
from mrpo.exit_code import ExitCode
from mrpo.observe.page.rollouts import MAX_TEXTS, RolloutReader
from mrpo.observe.page.serve import ReportServer
from mrpo.observe.report import write_report, write_report_page
from mrpo.record.run_folder import RunFolder

app = new_app()
_MB = 1_000_000
QUIET_SECONDS = 2.0
"""Reading that is over within them needs no progress."""


@app.command(
    help=__doc__,
    epilog=examples("mrpo report", "mrpo report runs/mine --watch", "mrpo report runs/grpo runs/gdpo --out both.html"),
)
def report(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN",
            help="Runs' folders, or their names below --runs; the latest if none is given.",
            autocompletion=complete_run,
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the page there, and no pictures; of several runs report.html here."),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Serve the page on this machine and keep it up to date.")
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where --watch listens; 0: any free port.")] = 0,
    max_texts: Annotated[
        int, typer.Option(metavar="MB", min=0, help="Compressed prompts and responses that the page may hold.")
    ] = MAX_TEXTS // _MB,
    runs: Runs = "runs",
) -> ExitCode:
    given: list[str | None] = [*names] if names else [None]
    folders = list({folder.path: folder for folder in (RunFolder.find(name, runs) for name in given)}.values())
    reader, progress = RolloutReader(max_texts * _MB), ReadingProgress()
    if watch:
        serve(folders, reader, port)
    elif out is None and len(folders) == 1:
        print(*write_report(folders[0], reader, progress), sep="\n")
    else:
        path = out or Path("report.html")
        with usable("--out", path):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_report_page(path, folders, reader, progress)
        print(path)
    return ExitCode.DONE


def serve(folders: list[RunFolder], reader: RolloutReader, port: int = 0) -> None:
    """Show the page of these runs until Ctrl-C.

    Raises:
        ConfigError: the port is in use.
    """
    with usable("--port", port):
        server = ReportServer(folders, lambda path, live: write_report_page(path, folders, reader, live=live), port)
    with server:
        try:
            print(f"{server.address}\nOn this machine alone; Ctrl-C ends it.", flush=True)
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            print(file=sys.stderr)


class ReadingProgress:
    """Says on stderr how many files of rollouts are read, if that takes a while: in a terminal on one line."""

    def __init__(self) -> None:
        self.began = self.said = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now, shown = time.monotonic(), self.said > self.began
        terminal = sys.stderr.isatty()
        if now - self.began < QUIET_SECONDS or (now - self.said < (0.2 if terminal else 10) and done < total):
            return
        if shown or done < total:
            self.said = now
            end = "\r" if terminal and done < total else "\n"
            print(f"mrpo: read {done} of {total} files of rollouts", end=end, file=sys.stderr, flush=True)
