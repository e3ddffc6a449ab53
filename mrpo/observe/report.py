"""The report of a run: two pictures, and one page with its curves, all its rollouts, its numbers and its config.

The page is ``report.html`` beside this file, a jinja2 template that escapes whatever it is given, and the scripts of
``mrpo.observe.page``. Names of rewards, texts of rollouts and error messages are anybody's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mrpo.config.observe import RolloutRecord
from mrpo.config.schedule import Schedule
from mrpo.observe.page.assemble import write_page
from mrpo.observe.page.curves import curves_of
from mrpo.observe.page.rollouts import Notify, RolloutReader, table_of
from mrpo.observe.progress import Progress, clock, in_order
from mrpo.observe.prompts import RecentPrompts, recent_prompts, reward_weights
from mrpo.observe.summary import quarters, samples
from mrpo.observe.timeline import timeline
from mrpo.observe.timing import PHASE_COLOURS
from mrpo.record import metrics
from mrpo.record.alarms import alarm_notes
from mrpo.record.jsonl import Record
from mrpo.record.replacing import replacing
from mrpo.record.run_folder import RunFolder

_COLUMNS = (
    (metrics.TITLES["rollout/response_length/mean"], "rollout/response_length/mean", 1),
    (metrics.TITLES["time/step"], "time/step", 2),
    (metrics.TITLES["train/entropy"], "train/entropy", 3),
    (metrics.TITLES["train/grad_norm"], "train/grad_norm", 3),
)
"""Columns of the table of steps beside the rewards: title, metric, decimals."""
MAX_ROWS = 1000
"""Steps in the table of steps: the last ones."""


def write_report(
    folder: RunFolder, reader: RolloutReader | None = None, notify: Notify | None = None
) -> tuple[Path, Path]:
    """Write ``report.png`` and ``report.html`` into the run's folder, at any time in its life.

    A run with its estimator's diagnostics gets a second picture, ``report_details.png``.

    Returns:
        The first two files' paths. Each is replaced in one move, so a reader never sees half of one.
    Raises:
        CorruptLineError: a complete line of one of the run's files is broken.
    """
    # matplotlib is slow to import, and only pictures need it
    from mrpo.observe.figure import write_figure

    progress, records = read_progress(folder), folder.metrics()
    with replacing(folder.png) as partial:
        subtitle = f"{_state(progress)}    (a → b: mean of the first and of the last quarter of the steps)"
        write_figure(partial, folder.name, subtitle, records, progress.rewards)
    _write_details(folder, records, progress.rewards)
    write_report_page(folder.html, [folder], reader, notify)
    return folder.png, folder.html


def write_report_page(
    path: Path,
    folders: Sequence[RunFolder],
    reader: RolloutReader | None = None,
    notify: Notify | None = None,
    live: str = "",
) -> None:
    """Write the page of one run, or of several that it can lay over each other.

    Args:
        reader: keeps what it has read, for a page that is written again and again.
        notify: is told how many files of rollouts have been read, and of how many.
        live: the version of what is shown, for ``mrpo report --watch``.
    Raises:
        CorruptLineError: a complete line of one of the runs' files is broken.
    """
    table = table_of((reader or RolloutReader()).read(folders, notify or (lambda done, total: None)))
    names = _names_apart(folders)
    runs, drawn = [], []
    for name, folder in zip(names, folders, strict=True):
        progress, records = read_progress(folder), folder.metrics()
        runs.append(_shown(name, folder, progress, records))
        weights = {
            reward: weight for reward, weight in reward_weights(folder).items() if not isinstance(weight, Schedule)
        }
        curves = curves_of(records, folder.events(), progress.rewards)
        drawn.append({"name": name, "rewards": progress.rewards, "weights": weights, **curves})
    title = names[0] if len(names) == 1 else f"{len(names)} runs: {', '.join(names)}"
    write_page(path, title, {"runs": runs}, {"runs": drawn, "rollouts": table.values}, table, live)


def _names_apart(folders: Sequence[RunFolder]) -> list[str]:
    """Folders' names; the path where two would be the same."""
    names = [folder.name for folder in folders]
    return [str(folder.path) if names.count(folder.name) > 1 else folder.name for folder in folders]


def _shown(name: str, folder: RunFolder, progress: Progress, records: Sequence[Record]) -> dict[str, Any]:
    """What the template shows of a run by itself."""
    # scipy, which the intervals need, is slow to import
    from mrpo.observe.before_after import before_after, page_values

    return {
        "name": name,
        "state": _state(progress),
        "failure": "" if progress.end is None else progress.end.detail,
        "alarms": _alarms(progress, records),
        "logs": folder.logs,
        "summary": [_summary(records, reward) for reward in progress.rewards],
        "details": _details(records),
        "before_after": page_values(before_after(folder)),
        "rollouts": [_rollout(label, record) for label, record in samples(folder)],
        "recorded": _recorded(folder),
        "timeline": _timeline(records, folder.events()),
        "prompts": _prompts(folder, records),
        **_steps(records, progress.rewards),
        "config": folder.config.read_text(encoding="utf-8") if folder.config.exists() else "no config.yaml",
    }


def _alarms(progress: Progress, records: Sequence[Record]) -> list[dict[str, str]]:
    """What the run has warned of, and its alarms, with what to do about them."""
    warned = [{"name": warning.name, "detail": warning.detail, "advice": ""} for warning in progress.warnings]
    return warned + [
        {"name": note["name"], "detail": f"{note['when']}: {note['detail']}", "advice": note["remedy"]}
        for note in alarm_notes(records)
    ]


def _details(records: Sequence[Record]) -> dict[str, str] | None:
    """A line on a uniform budget; None where there are no diagnostics of the estimator."""
    from mrpo.observe.allocation import uniform_note
    from mrpo.observe.contributions import is_measured

    return {"note": uniform_note(records) or ""} if is_measured(records) else None


def _write_details(folder: RunFolder, records: Sequence[Record], rewards: Sequence[str]) -> None:
    """The second picture, where there is anything to draw."""
    from mrpo.observe.details import write_details

    found = _details(records)
    if found is None:
        return
    recent = None if found["note"] else recent_prompts(folder, reward_weights(folder))
    with replacing(folder.details_png) as partial:
        write_details(partial, records, rewards, recent, folder.events())


def _timeline(records: Sequence[Record], events: Sequence[Record]) -> dict[str, Any] | None:
    """The last step that can be drawn as bars: who, at what, from when, until when."""
    step = timeline(records, events)
    if step is None:
        return None
    bars = [
        (who, lane, *bar, PHASE_COLOURS.get(bar.phase, "#BBBBBB"))
        for lane, (who, of) in enumerate(step.lanes.items())
        for bar in of
    ]
    legend = {phase: colour for _, _, phase, _, _, _, colour in bars}
    return {"step": step.step, "seconds": step.seconds, "bars": bars, "idle": step.idle, "legend": legend}


def _prompts(folder: RunFolder, records: Sequence[Record]) -> RecentPrompts | None:
    """Rollouts and variance of single prompts, of a budget that wasn't uniform."""
    found = _details(records)
    return None if found is None or found["note"] else recent_prompts(folder, reward_weights(folder))


def read_progress(folder: RunFolder) -> Progress:
    """Where the run stands by all that its files say."""
    progress = Progress()
    for record in in_order(folder.events() + folder.metrics()):
        progress.feed(record)
    return progress


def _state(progress: Progress) -> str:
    steps = f"{progress.step} of {progress.total_steps or '?'} steps"
    times = [record["time"] for record in progress.steps.values()]
    ends = [progress.end.began] if progress.end else times
    elapsed = f" in {clock(max(ends) - progress.began)}" if ends and progress.began is not None else ""
    if progress.end is not None:
        return f"{progress.end.name}, {steps}{elapsed}"
    return f"unfinished, {steps}{elapsed}, last seen in {progress.where()}"


def _summary(records: Sequence[Record], reward: str) -> dict[str, Any]:
    """A reward's line: means of the first and the last quarter (None before the first step), last validation."""
    values, validated = metrics.series(records, f"reward/{reward}/mean")[1], metrics.validation(records, reward)[1]
    first, last = quarters(values) if values else (None, None)
    return {"reward": reward, "first": first, "last": last, "validation": validated[-1] if validated else None}


def _steps(records: Sequence[Record], rewards: Sequence[str]) -> dict[str, Any]:
    """The table of steps; a column that no step has a number for is left out, a reward never."""
    columns = [(reward, f"reward/{reward}/mean", 3) for reward in rewards]
    columns += [
        column for column in _COLUMNS if any(metrics.number(record, column[1]) is not None for record in records)
    ]
    rows = [
        (r["step"], [_number(metrics.number(r, metric), digits) for _, metric, digits in columns])
        for r in records[-MAX_ROWS:]
    ]
    return {"titles": [title for title, _, _ in columns], "steps": rows, "all_steps": len(records)}


def _recorded(folder: RunFolder) -> str:
    """What of its rollouts the run records, in words; empty for all of them."""
    import yaml

    config = yaml.safe_load(folder.config.read_text(encoding="utf-8")) if folder.config.exists() else None
    observe = config.get("observe") if isinstance(config, dict) else None
    given = observe.get("rollouts") if isinstance(observe, dict) else None
    return str(RolloutRecord(**given)) if isinstance(given, dict) else ""


def _rollout(label: str, record: Record) -> dict[str, Any]:
    about = [f"prompt {record['uid']}", f"sample {record['sample']}"]
    about += [f"{record['tokens']} tokens"] if record.get("tokens") is not None else []
    about += ["left out of the update"] if record.get("keep") is False else []
    rewards: Mapping[str, Any] = record["rewards"] if isinstance(record["rewards"], dict) else {}
    scores = {name: metrics.number(rewards, name) for name in rewards}
    texts = [
        (title, record.get(key)) for key, title in (("prompt",) * 2, ("response",) * 2, ("ground_truth", "wanted"))
    ]
    return {
        "label": label,
        "about": ", ".join(about),
        "scores": [*scores.items(), ("advantage", metrics.number(record, "advantage"))],
        "texts": [(title, text) for title, text in texts if text not in (None, "")],
    }


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
