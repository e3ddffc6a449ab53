"""The cells of a grid, run one after another, each as ``mrpo train`` in a process of its own.

::

    FOLDER/budget           what ``--budget`` said, if it did
    FOLDER/cells/<cell>/    a run's folder
    FOLDER/logs/<cell>.log  what its command printed

A cell that is done isn't run again; one that was interrupted goes on from its checkpoint, as the same command in the
same folder does. A cell that fails doesn't end the others.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Literal

import yaml

from mrpo.checkpoint.compatible import differences
from mrpo.compare.equal import BUDGET_FILE, STEPS, EqualBudget, read_budget
from mrpo.compare.find import CELLS, read_cell
from mrpo.compare.grid import Cell
from mrpo.compare.shared_start import shared_start
from mrpo.config.checked_run import CheckedRun
from mrpo.config.cluster import KubernetesCluster, SlurmCluster
from mrpo.config.device import device_on
from mrpo.config.flatten import flatten
from mrpo.config.overrides import override, parse
from mrpo.errors import ConfigError, MrpoError
from mrpo.exit_code import ExitCode
from mrpo.launch.capacity import on_cpu
from mrpo.launch.local import run_passing_signals_on
from mrpo.observe.progress import clock
from mrpo.record.phase import Phase
from mrpo.record.run_folder import RunFolder

TRAIN = (sys.executable, "-m", "mrpo.cli.main", "train")
"""The command of a cell, before its settings."""
State = Literal["new", "interrupted", "done"]
Report = Callable[[str, bool], None]
"""Gets a line, and whether it is a passing one, which the next may replace."""


@dataclass(frozen=True)
class Planned:
    """A cell that nothing speaks against."""

    cell: Cell
    settings: tuple[str, ...]
    """Its overrides, with what its budget adds."""
    folder: RunFolder
    steps: int
    checked: CheckedRun
    state: State


@dataclass(frozen=True)
class Outcome:
    """How a cell ended, by the exit code of its command."""

    cell: str
    code: int
    cause: str = ""


def plan(
    cells: Sequence[Cell],
    out: Path,
    budget: EqualBudget | None,
    cluster: SlurmCluster | KubernetesCluster | None = None,
) -> list[Planned]:
    """Check every cell before the first one starts.

    Args:
        cluster: where they will run; None: here.

    Raises:
        ConfigError: one of them can't be run, or isn't the one that its folder was begun with. It is named.
    """
    before = read_budget(out)
    begun = (out / CELLS).is_dir()
    if begun and (None if before is None else before.unit) != (None if budget is None else budget.unit):
        raise ConfigError(f"--budget: given {budget or 'none'}, but {out} was begun with {before or 'none'}.")
    if before is not None and budget is not None and budget.amount < before.amount:
        raise ConfigError(f"--budget: given {budget}, but {out} was begun with {before}. Allowed: no less than that.")
    return [_planned(cell, out, budget, cluster) for cell in cells]


def _planned(
    cell: Cell, out: Path, budget: EqualBudget | None, cluster: SlurmCluster | KubernetesCluster | None
) -> Planned:
    folder = RunFolder(out / CELLS / cell.name)
    try:
        settings = list(cell.overrides)
        given_all = [*settings, override("run_dir", str(folder.path))]
        if cluster is None:
            checked = CheckedRun.load(given_all)
        else:
            volume = Path(cluster.mount) if isinstance(cluster, KubernetesCluster) else None
            checked = CheckedRun.load(given_all, lambda config: device_on(config, cluster.groups), volume)
            if on_cpu(cluster.groups) and checked.config.trainer.device == "auto":
                settings.append("trainer.device=cpu")
                checked = _with_trainer(checked, device="cpu")
        if budget is not None:
            if any(parse(text).key_or_group == STEPS for text in settings):
                raise ConfigError(f"{STEPS}: is decided by --budget, so it can't be given beside it.")
            given = budget.steps(checked.config)
            checked = _with_trainer(checked, total_training_steps=given)
            settings.append(f"{STEPS}={given}")
        steps = checked.config.trainer.total_training_steps
        state = _state(folder, checked, budget)
    except ConfigError as error:
        raise ConfigError(f"cell {cell.name}: {error}") from None
    return Planned(cell, tuple(settings), folder, steps, checked, state)


def _with_trainer(checked: CheckedRun, **changes: object) -> CheckedRun:
    trainer = checked.config.trainer.model_copy(update=changes)
    return replace(checked, config=checked.config.model_copy(update={"trainer": trainer}))


def _state(folder: RunFolder, checked: CheckedRun, budget: EqualBudget | None) -> State:
    if not folder.config.is_file():
        return "new"
    content = yaml.safe_load(folder.config.read_text(encoding="utf-8"))
    current = dict(flatten(checked.config.model_dump(mode="json")))
    if changed := differences(dict(flatten(content)), current):
        shown = "".join(f"\n  {difference}" for difference in changed)
        raise ConfigError(f"was begun with other settings:{shown}\nUndo that, or give the grid another --out.")
    run = read_cell(folder, budget)
    steps = checked.config.trainer.total_training_steps
    trained = int(run.steps_T[-1]) if len(run.steps_T) else 0
    if trained > steps:
        raise ConfigError(f"{STEPS}: given {steps}, but it has trained {trained} already. Allowed: no fewer.")
    # After more steps were asked for, what was done isn't.
    return (
        "done"
        if run.state == Phase.DONE and (trained == steps or (budget is not None and budget.is_used_up(run)))
        else "interrupted"
    )


def begin(out: Path, budget: EqualBudget | None) -> None:
    """Make what a grid's folder has before its first cell."""
    for name in ("logs", CELLS):
        (out / name).mkdir(parents=True, exist_ok=True)
    if budget is not None:
        (out / BUDGET_FILE).write_text(f"{budget}\n", encoding="utf-8")


def run_cells(planned: Sequence[Planned], out: Path, budget: EqualBudget | None, report: Report) -> list[Outcome]:
    """Run what isn't done. Ends early only if it is asked to; then the outcome of the last cell is ``REQUEUE``.

    Args:
        report: gets a line as a cell begins and has ended; and, as passing ones, how far it is.
    """
    begin(out, budget)
    with shared_start(planned, out / "logs" / "start.log"):
        return _run_in_turn(planned, out, budget, report)


def _run_in_turn(planned: Sequence[Planned], out: Path, budget: EqualBudget | None, report: Report) -> list[Outcome]:
    outcomes, took = list[Outcome](), list[float]()
    for n, one in enumerate(planned, 1):
        say = partial(_say, report, f"cell {n} of {len(planned)}, {one.cell.name}")
        if one.state == "done":
            say("is done already")
            outcomes.append(Outcome(one.cell.name, ExitCode.DONE))
            continue
        say("goes on" if one.state == "interrupted" else "starts")
        began = time.monotonic()
        waiting = sum(other.state != "done" for other in planned[n:])
        watch = _Watch(one, budget, took, waiting, partial(say, passing=True))
        outcome, asked_to_end = _run(one, out / "logs" / f"{one.cell.name}.log", budget, watch.poll)
        took.append(time.monotonic() - began)
        how = "done" if outcome.code == ExitCode.DONE else "ended"
        say(f"{how} after {clock(took[-1])}{outcome.cause and f', {outcome.cause}'}")
        outcomes.append(outcome)
        if asked_to_end:
            break
    return outcomes


def _say(report: Report, where: str, text: str, passing: bool = False) -> None:
    report(f"{where}: {text}", passing)


def _run(one: Planned, log: Path, budget: EqualBudget | None, poll: Callable[[], None]) -> tuple[Outcome, bool]:
    """How the cell ended, and whether all were asked to."""
    command = [*TRAIN, *one.settings, override("run_dir", str(one.folder.path))]
    with open(log, "ab") as output:
        start = output.tell()
        code, asked_to_end = run_passing_signals_on(command, output, poll)
    if code == ExitCode.REQUEUE and budget is not None and budget.is_used_up(read_cell(one.folder, None)):
        code = ExitCode.DONE
    if code != ExitCode.DONE and asked_to_end:
        code = ExitCode.REQUEUE
    return Outcome(one.cell.name, code, "" if code == ExitCode.DONE else _cause(log, start)), asked_to_end


class _Watch:
    """Follows a cell that runs: reports its steps, and asks it to stop when its budget is used up."""

    def __init__(
        self, one: Planned, budget: EqualBudget | None, took: list[float], waiting: int, report: Callable[[str], None]
    ):
        self.one, self.budget, self.took, self.waiting, self.report = one, budget, took, waiting, report
        self.began = time.monotonic()
        self.tail = one.folder.tail_metrics()
        self.first_step: int | None = None
        self.tail.poll()  # what an earlier attempt has done

    def poll(self) -> None:
        steps = [int(record["step"]) for record in self.tail.poll()]
        if not steps:
            return
        self.first_step = self.first_step or steps[0]
        share = self._share(steps[-1])
        goal = f"step {steps[-1]}" if self._counts_itself() else f"step {steps[-1]} of {self.one.steps}"
        self.report(f"{goal}{self._left(share, steps[-1])}")
        if share >= 1 and self._counts_itself():
            self.one.folder.stop_file.touch()

    def _counts_itself(self) -> bool:
        return self.budget is not None and self.budget.unit != "rollouts"

    def _share(self, step: int) -> float:
        """How much of its budget the cell has used."""
        if self.budget is None or not self._counts_itself():
            return step / self.one.steps
        counts = read_cell(self.one.folder, None).counts.get(self.budget.unit)
        return 0.0 if counts is None or not len(counts) else float(counts[-1]) / self.budget.amount

    def _left(self, share: float, step: int) -> str:
        """Time left of this cell and of all; nothing while it can't be told."""
        passed = time.monotonic() - self.began
        done = step - (self.first_step or step) + 1
        if not 0 < share <= 1:
            return ""
        whole = passed * share_of_steps(share, done, step)
        cell = max(0.0, whole - passed)
        rest = self.waiting * (fmean(self.took) if self.took else whole)
        return f", {clock(cell)} left of it, {clock(cell + rest)} of all"


def share_of_steps(share: float, done: int, step: int) -> float:
    """How many times as long as until now a cell takes in all, of which this attempt has done ``done`` of ``step``
    steps.

    >>> share_of_steps(0.5, 10, 10), share_of_steps(0.5, 5, 10)
    (2.0, 3.0)
    """
    return 1 + (1 - share) / share * step / done


def _cause(log: Path, start: int) -> str:
    """The last message of a command, where it said one."""
    lines = log.read_bytes()[start:].decode("utf-8", "replace").splitlines()
    said = [line for line in lines if line.startswith("mrpo: ")]
    return (said[-1].removeprefix("mrpo: ") if said else f"see {log}")[:300]


def require_all_done(outcomes: Sequence[Outcome], planned: Sequence[Planned]) -> ExitCode:
    """The exit code of a grid.

    Raises:
        MrpoError: cells have failed; each is named, with its cause.
    """
    failed = [outcome for outcome in outcomes if outcome.code not in (ExitCode.DONE, ExitCode.REQUEUE)]
    if failed:
        shown = "".join(f"\n  {outcome.cell}: {outcome.cause}" for outcome in failed)
        raise MrpoError(f"{len(failed)} of {len(planned)} cells failed; the same command tries them again:{shown}")
    left = len(planned) - sum(outcome.code == ExitCode.DONE for outcome in outcomes)
    return ExitCode.REQUEUE if left else ExitCode.DONE
