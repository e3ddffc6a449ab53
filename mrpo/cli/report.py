"""Draw a run, finished or not.

Writes report.png, report_details.png and report.html into its folder.
"""

from __future__ import annotations

from mrpo.cli._app import RunName, Runs, examples, new_app
from mrpo.exit_code import ExitCode
from mrpo.observe.report import write_report
from mrpo.record.run_folder import RunFolder

app = new_app()


@app.command(help=__doc__, epilog=examples("mrpo report", "mrpo report runs/mine"))
def report(run: RunName = None, runs: Runs = "runs") -> ExitCode:
    print(*write_report(RunFolder.find(run, runs)), sep="\n")
    return ExitCode.DONE
