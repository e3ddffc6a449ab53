"""The report of a run: one picture, and one page that holds it with the numbers, the rollouts and the config.

The page is ``report.html`` beside this file, a jinja2 template that escapes whatever it is given: names of rewards,
texts of rollouts and error messages are anybody's.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined, Template

from mrpo.config.observe import RolloutRecord
from mrpo.observe.progress import Progress, clock, in_order
from mrpo.observe.prompts import recent_prompts, reward_weights
from mrpo.observe.summary import quarters, samples
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


def write_report(folder: RunFolder) -> tuple[Path, Path]:
    """Write ``report.png`` and ``report.html`` into the run's folder, at any time in its life.

    A run with its estimator's diagnostics gets a second picture, ``report_details.png``, also in the page.

    Returns:
        The first two files' paths. Each is replaced in one move, so a reader never sees half of one.
    Raises:
        CorruptLineError: a complete line of one of the run's files is broken.
    """
    # matplotlib and scipy are slow to import, and only reports need them
    from mrpo.observe.before_after import before_after, page_values
    from mrpo.observe.figure import write_figure

    progress, records = read_progress(folder), folder.metrics()
    state = _state(progress)
    with replacing(folder.png) as partial:
        subtitle = f"{state}    (a → b: mean of the first and of the last quarter of the steps)"
        write_figure(partial, folder.name, subtitle, records, progress.rewards)
    page = _template().render(
        name=folder.name,
        state=state,
        failure="" if progress.end is None else progress.end.detail,
        warnings=[warning.detail for warning in progress.warnings],
        alarms=alarm_notes(records),
        logs=folder.logs,
        png=_base64(folder.png),
        details=_details(folder, records, progress.rewards),
        summary=[_summary(records, reward) for reward in progress.rewards],
        before_after=page_values(before_after(folder)),
        rollouts=[_rollout(label, record) for label, record in samples(folder)],
        recorded=_recorded(folder),
        **_steps(records, progress.rewards),
        config=folder.config.read_text(encoding="utf-8") if folder.config.exists() else "no config.yaml",
    )
    with replacing(folder.html) as partial:
        partial.write_text(page, encoding="utf-8", errors="backslashreplace")
    return folder.png, folder.html


def _template() -> Template:
    """A name that the template uses and that it wasn't given is an error, never an empty string."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["number"] = _number
    return environment.from_string(resources.files(__package__).joinpath("report.html").read_text(encoding="utf-8"))


def _base64(png: Path) -> str:
    return base64.b64encode(png.read_bytes()).decode("ascii")


def _details(folder: RunFolder, records: Sequence[Record], rewards: Sequence[str]) -> dict[str, str] | None:
    """The second picture, and a line on a uniform budget; None where there is nothing to draw."""
    from mrpo.observe.allocation import uniform_note
    from mrpo.observe.contributions import is_measured
    from mrpo.observe.details import write_details

    if not is_measured(records):
        return None
    note = uniform_note(records)
    recent = None if note else recent_prompts(folder, reward_weights(folder))
    with replacing(folder.details_png) as partial:
        write_details(partial, records, rewards, recent, folder.events())
    return {"note": note or "", "png": _base64(folder.details_png)}


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
    rows = [(r["step"], [_number(metrics.number(r, metric), digits) for _, metric, digits in columns]) for r in records]
    return {"titles": [title for title, _, _ in columns], "steps": rows}


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
    scores = {name: metrics.number(record["rewards"], name) for name in record["rewards"]}
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
