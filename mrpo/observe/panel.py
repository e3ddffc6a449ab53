"""Progress drawn for a terminal: a pure function from where the run stands to what rich prints."""

from __future__ import annotations

from statistics import median

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from mrpo.observe.progress import Progress, change, clock, direction, sparkline
from mrpo.record.metrics import TITLES
from mrpo.record.phase import Phase
from mrpo.record.run_folder import RunFolder

# Blue and orange, told apart by every eye; the arrow says the same without colour.
_ARROWS = {1: ("▲", "bright_blue"), 0: ("·", "dim"), -1: ("▼", "orange1")}
_SPINNER = Spinner("dots")
_END_STYLES: dict[str, str] = {Phase.DONE: "green", Phase.STOPPED: "yellow"}


def draw(progress: Progress, folder: RunFolder, now: float, width: int = 80) -> RenderableType:
    """The whole display, at most ``width`` columns wide."""
    parts: list[RenderableType] = [_header(progress, now)]
    if not progress.training and progress.startup:
        parts.append(_startup(progress, now))
    elif progress.end is None:
        parts.append(_phase(progress, now))
    if progress.steps:
        parts += [Text(), _rewards(progress, sparks=max(8, min(40, width - 48)))]
    parts += [Text(f"warning: {warning.detail}", style="yellow") for warning in progress.warnings]
    parts += [Text(f"alarm: {alarm}", style="yellow") for alarm in progress.alarms()]
    if progress.end is not None:
        parts += [Text(), _ending(progress, folder)]
    style = "cyan" if progress.end is None else _END_STYLES.get(progress.end.name, "red")
    title, subtitle = Text(folder.name, style="bold"), Text(str(folder.path), style="dim", overflow="ellipsis")
    width = min(width, 100)
    return Panel(Group(*parts), title=title, subtitle=subtitle, border_style=style, width=width, padding=(0, 1))


def _header(progress: Progress, now: float) -> RenderableType:
    total, end = progress.total_steps, progress.end
    row = Table.grid(padding=(0, 2), expand=True)
    row.add_column(no_wrap=True)
    row.add_column(ratio=1)
    row.add_column(no_wrap=True, justify="right")
    elapsed = clock((end.began if end else now) - progress.began) if progress.began is not None else "0:00"
    left = progress.time_left(now) if end is None else None
    times = f"{elapsed} elapsed" + (f", {clock(left)} left" if left is not None else "")
    bar = ProgressBar(total=total or 1, completed=progress.step if total else 0, complete_style="cyan")
    row.add_row(Text(f"step {progress.step}/{total if total else '?'}", style="bold"), bar, Text(times))
    return row


def _phase(progress: Progress, now: float) -> RenderableType:
    if progress.phase is None:
        return Text("waiting for the run to begin", style="dim")
    line = Text()
    line.append_text(Text(str(_SPINNER.render(now))))
    line.append(f" {progress.phase.name}", style="bold cyan")
    line.append(f"  {clock(now - progress.phase.began)}")
    if progress.phase.detail:
        line.append(f"  {' '.join(progress.phase.detail.split())}", style="dim")
    line.no_wrap, line.overflow = True, "ellipsis"
    return line


def _startup(progress: Progress, now: float) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    for phase, seconds, running in progress.startup_seconds(now):
        mark, style = (str(_SPINNER.render(now)), "bold cyan") if running else ("✓", "dim")
        table.add_row(Text(f"{mark} {phase.name}", style=style), Text(f"{seconds:.1f} s", style=style))
    return table


def _rewards(progress: Progress, sparks: int) -> RenderableType:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("reward", no_wrap=True, overflow="ellipsis", max_width=20)
    table.add_column("now", justify="right", no_wrap=True)
    table.add_column("change", justify="right", no_wrap=True)
    table.add_column("by step", no_wrap=True)
    for reward in progress.rewards:
        _add(table, progress, reward, f"reward/{reward}/mean", "", sparks, bold=True)
    table.add_section()
    for metric, unit in (("rollout/response_length/mean", " tok"), ("time/step", " s")):
        _add(table, progress, TITLES[metric], metric, unit, sparks)
    return table


def _add(
    table: Table, progress: Progress, label: str, metric: str, unit: str, sparks: int, *, bold: bool = False
) -> None:
    history, value = progress.history(metric), progress.current(metric)
    if metric == "time/step" and history:  # one slow first step would flatten the line
        history = [min(seconds, 3 * median(history)) for seconds in history]
    if not history and not bold:
        return
    rise, (arrow, style) = change(history), _ARROWS[direction(history)]
    digits = 1 if unit else 3
    shown = "–" if value is None else f"{value:.{digits}f}{unit}"
    delta = Text("" if rise is None else f"{arrow} {rise:+.{digits}f}", style=style)
    if not bold and rise is not None:
        delta.stylize("dim")  # longer or slower is neither good nor bad in itself
    line = Text(sparkline(history, sparks), style="cyan" if bold else "dim")
    table.add_row(Text(label, style="bold" if bold else ""), Text(shown, style="bold" if bold else ""), delta, line)


def _ending(progress: Progress, folder: RunFolder) -> RenderableType:
    end = progress.end
    assert end is not None
    if end.name == Phase.DONE:
        return Text(f"done: {progress.step} steps", style="bold green")
    if end.name == Phase.STOPPED:
        return Text(f"stopped: {end.detail}", style="bold yellow")
    text = Text(f"failed in {progress.where()}\n", style="bold red")
    text.append(end.detail or "no cause was given", style="not bold default")
    text.append(f"\nlogs: {folder.logs}", style="not bold dim")
    return text
