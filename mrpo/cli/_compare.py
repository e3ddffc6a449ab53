"""What ``mrpo compare`` does. It is loaded when the command runs, so that help and completion needn't wait for it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from mrpo.cli._app import show_notes
from mrpo.cli._table import print_whole, table
from mrpo.compare.comparison import Comparison, compare_runs
from mrpo.compare.equal import EqualBudget
from mrpo.compare.find import find_runs
from mrpo.compare.grid import Cell, cells_of, is_grid
from mrpo.compare.run import AXES
from mrpo.errors import ConfigError, MrpoError, unknown_name, usable
from mrpo.exit_code import ExitCode
from mrpo.record.run_folder import RunFolder

if TYPE_CHECKING:
    from mrpo.compare.on_cluster import ClusterCell

SECONDS_BETWEEN_LINES = 30.0
"""In a log, of how far a cell is."""


def compare(
    words: list[str] | None,
    out: Path | None,
    baseline: str | None,
    target: list[str] | None,
    pareto: str | None,
    per: str | None,
    reward: list[str] | None,
    unfinished: bool,
    budget: str | None,
    dry_run: bool,
    runs: str,
) -> ExitCode:
    """Parameters are those of the command."""
    if per is not None and per not in AXES:
        raise unknown_name("--per", per, AXES, noun="axis")
    options: dict[str, Any] = {
        "baseline": baseline,
        "targets": {name: _value(name, text) for name, text in map(_pair("--target"), target or [])},
        "pareto": _two(pareto),
        "axis": per or "steps",
        "unfinished": unfinished,
    }
    columns = {column: name for name, column in map(_pair("--reward"), reward or [])}
    if not words:
        raise ConfigError("run: none given. Allowed: runs, or recipe=NAME and a grid.")
    if is_grid(words):
        equal = None if budget is None else EqualBudget.parse(budget)
        if equal is not None:
            options |= {"axis": per or equal.unit, "end": equal.amount if per in (None, equal.unit) else None}
        return _run_grid(words, out, equal, options, dry_run)
    for option, given in (("--budget", budget), ("--dry-run", dry_run or None)):
        if given is not None:
            raise ConfigError(f"{option}: given with runs that are there. Allowed: with recipe=NAME and a grid.")
    show(Console(), out, compare_runs(find_runs(words, columns, runs), **options))
    return ExitCode.DONE


def _run_grid(
    words: list[str], out: Path | None, budget: EqualBudget | None, options: dict[str, Any], dry_run: bool
) -> ExitCode:
    if out is None:
        raise ConfigError("--out: not given. Allowed: a folder for the grid's runs and what is made of them.")
    from mrpo.compare import sweep  # with the checks of mrpo train, which comparing what is there doesn't wait for
    from mrpo.driver.machine import require_machine

    console = Console()
    files = [word.removeprefix("cluster=") for word in words if word.startswith("cluster=")]
    if files:
        cells = cells_of([word for word in words if not word.startswith("cluster=")])
        return _submit_grid(console, cells, files[-1], out, budget, options, dry_run)
    with usable("--out", out):
        planned = sweep.plan(cells_of(words), out, budget)
    show_notes(dict.fromkeys(note for one in planned for note in one.checked.notes))
    if dry_run:
        common = [text for text in planned[0].settings if all(text in one.settings for one in planned)]
        rows = [(one.cell.name, one.state, " ".join(t for t in one.settings if t not in common)) for one in planned]
        headings = ("cell", "state", "settings, beside those of all")
        print_whole(console, table(f"{len(planned)} cells in {out}", headings, rows, text_columns=3))
        console.print("all:", *common, highlight=False, markup=False, soft_wrap=True)
        return ExitCode.DONE
    for one in planned:
        require_machine(one.checked.config)
    with _claimed(out):
        outcomes = sweep.run_cells(planned, out, budget, _report(console))
    if len(outcomes) == len(planned):
        _compare_cells(console, out, options)  # what failed is said below, with its causes
    return sweep.require_all_done(outcomes, planned)


def _submit_grid(
    console: Console,
    cells: list[Cell],
    file: str,
    out: Path,
    budget: EqualBudget | None,
    options: dict[str, Any],
    dry_run: bool,
) -> ExitCode:
    """Submit what is left, and compare what is there."""
    from mrpo.compare import on_cluster, sweep
    from mrpo.launch.cluster_file import load_any_cluster

    cluster, out = load_any_cluster(file), out.absolute()
    on_cluster.require_suitable(cluster, budget, out)
    with usable("--out", out):
        planned = sweep.plan(cells, out, budget, cluster)
    show_notes(dict.fromkeys(note for one in planned for note in one.checked.notes))
    with nullcontext() if dry_run else _claimed(out):
        found = on_cluster.look(planned, out, cluster)
        submission = on_cluster.prepare(found, cluster, Path.cwd(), Path(sys.prefix))
        for one in found:
            print(f"cell {one.planned.cell.name}: {', '.join(filter(None, (one.state, one.detail)))}")
        if dry_run:
            print(*(submission.files.values() if submission else ()), sep="", end="")
            return ExitCode.DONE
        if submission is not None:
            sweep.begin(out, budget)
            submission.submit(out)
    if any(one.state == "done" for one in found):
        _compare_cells(console, out, options)
    print(f"mrpo: {_counted(found)}. The same command submits what has failed, and compares what is done.")
    return ExitCode.DONE


def _compare_cells(console: Console, out: Path, options: dict[str, Any]) -> None:
    try:
        show(console, out, compare_runs(find_runs([str(out)]), **options))
    except MrpoError as error:
        print(f"mrpo: no comparison: {error}", file=sys.stderr)


@contextmanager
def _claimed(out: Path) -> Iterator[None]:
    with usable("--out", out):
        out.mkdir(parents=True, exist_ok=True)
    with RunFolder(out).claim():
        yield


def _counted(found: Sequence[ClusterCell]) -> str:
    """How many cells are what, now that those that were left are submitted."""
    done, submitted = (sum(test(one) for one in found) for test in (lambda o: o.state == "done", lambda o: o.is_left))
    return f"{done} of {len(found)} cells done, {submitted} submitted, {len(found) - done - submitted} under way"


def _report(console: Console) -> Callable[[str, bool], None]:
    """A line as a cell begins and ends; between, on a terminal a line that is replaced, else one every half minute."""
    last = [time.monotonic()]

    def report(text: str, passing: bool) -> None:
        width = console.width - 1
        if console.is_terminal:
            console.file.write(
                f"\r{text[:width].ljust(width) if passing else text.ljust(width)}" + "\n" * (not passing)
            )
            console.file.flush()
        elif not passing or time.monotonic() - last[0] >= SECONDS_BETWEEN_LINES:
            print(text, flush=True)
            last[0] = time.monotonic()

    return report


def show(console: Console, out: Path | None, comparison: Comparison) -> None:
    """Print the table and its remarks, and write the files."""
    from mrpo.compare import tables
    from mrpo.compare.write import write

    title = "comparison" if out is None else out.resolve().name
    drawn = table(title, tables.headings(comparison), tables.rows(comparison), text_columns=2)
    print_whole(console, drawn)
    written = [] if out is None else ["written: " + " ".join(map(str, write(out, title, comparison)))]
    for text in (*tables.explanations(comparison), *written):
        console.print(text, highlight=False, markup=False, soft_wrap=True)


def _pair(option: str) -> Any:
    def split(text: str) -> tuple[str, str]:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise ConfigError(f"{option}: given {text!r}, allowed: NAME=VALUE.")
        return name, value

    return split


def _value(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"--target: given {text!r} for {name}, allowed: a number.") from None


def _two(given: str | None) -> tuple[str, str] | None:
    if given is None:
        return None
    names = given.split(",")
    if len(names) != 2 or not all(names) or names[0] == names[1]:
        raise ConfigError(f"--pareto: given {given!r}, allowed: two rewards, A,B.")
    return names[0], names[1]
