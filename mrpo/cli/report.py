"""``mrpo report [RUN]``: draw a run, finished or not."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from mrpo.errors import ConfigError
from mrpo.observe.report import write_report
from mrpo.record.jsonl import CorruptLineError
from mrpo.record.run_folder import RunFolder


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0: written; 1: a file of the run is broken; 2: there is no such run."""
    parser = argparse.ArgumentParser(prog="mrpo report", description="Write report.png and report.html of a run.")
    parser.add_argument("run", nargs="?", help="a run's folder, or its name under RUNS (default: the latest)")
    parser.add_argument("--runs", default="runs", help="where runs lie (default: %(default)s)")
    options = parser.parse_args(argv)
    try:
        files = write_report(RunFolder.find(options.run, options.runs))
    except (ConfigError, CorruptLineError) as error:
        print(f"mrpo report: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    print(*files, sep="\n")
    return 0
