"""The report of a run: one picture, and one page that holds it with the numbers, the rollouts and the config."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from html import escape
from pathlib import Path
from string import Template

from mrpo.observe.progress import Progress, clock, in_order
from mrpo.observe.prompts import recent_prompts, reward_weights
from mrpo.observe.summary import quarters, samples
from mrpo.record import metrics as names
from mrpo.record.jsonl import Record
from mrpo.record.run_folder import RunFolder

_TEMPLATE = Path(__file__).with_name("report.html")
_COLUMNS = (
    ("length", "rollout/response_length/mean", 1),
    ("seconds", "time/step", 2),
    ("entropy", "train/entropy", 3),
    ("grad norm", "train/grad_norm", 3),
)


def write_report(folder: RunFolder) -> tuple[Path, Path]:
    """Write ``report.png`` and ``report.html`` into the run's folder, at any time in its life.

    A run whose estimator told about its rewards gets a second picture, ``report_details.png``, also in the page.

    Returns:
        The first two files' paths. Each is replaced in one move, so a reader never sees half of one.
    """
    from mrpo.observe.figure import write_figure  # matplotlib is slow to import, and only reports need it

    progress = read_progress(folder)
    records = folder.metrics()
    rewards = progress.rewards
    subtitle = f"{_state(progress)}    (a → b: mean of the first and of the last quarter of the steps)"
    with _replacing(folder.png) as partial:
        write_figure(partial, folder.name, subtitle, records, rewards)
    page = Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        name=escape(folder.name),
        state=escape(_state(progress)),
        failure=_failure(progress, folder),
        png=_data(folder.png),
        details=_details(folder, records, rewards),
        summary=_summary(records, rewards),
        rollouts=_rollouts(folder) or "<p>No rollouts were written yet.</p>",
        steps=_steps(records, rewards),
        config=escape(folder.config.read_text(encoding="utf-8")) if folder.config.exists() else "no config.yaml",
    )
    with _replacing(folder.html) as partial:
        partial.write_text(page, encoding="utf-8", errors="backslashreplace")
    return folder.png, folder.html


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A path to write to; what is there in the end moves to ``path``."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _data(png: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(png.read_bytes()).decode('ascii')}"


def _details(folder: RunFolder, records: Sequence[Record], rewards: Sequence[str]) -> str:
    """The second picture and a line on a uniform budget; empty where there is nothing to draw."""
    from mrpo.observe.allocation import uniform_note
    from mrpo.observe.details import write_details
    from mrpo.observe.made_of import is_measured

    if not is_measured(records):
        return ""
    note = uniform_note(records)
    recent = None if note else recent_prompts(folder, reward_weights(folder))
    with _replacing(folder.details_png) as partial:
        write_details(partial, records, rewards, recent)
    told = f'<p class="note">Numbers in titles: mean of the last quarter of the steps. {escape(note or "")}</p>'
    about = "Each reward's part in the advantage, conflicts of rewards, and rollouts by prompt"
    return f'<h2>Advantage and rollout budget</h2>\n{told}<img alt="{about}" src="{_data(folder.details_png)}">'


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


def _failure(progress: Progress, folder: RunFolder) -> str:
    if progress.end is None or not progress.end.detail:
        return ""
    return f'<div class="failure">{escape(progress.end.detail)}\nlogs: {escape(str(folder.logs))}</div>'


def _summary(records: Sequence[Record], rewards: Iterable[str]) -> str:
    validated = {reward: names.validation(records, reward)[1] for reward in rewards}
    head = [
        "reward",
        "first quarter",
        "last quarter",
        "change",
        *(["last validation"] if any(validated.values()) else []),
    ]
    rows: list[list[str]] = []
    for reward in rewards:
        values = names.series(records, f"reward/{reward}/mean")[1]
        if not values:
            rows.append([escape(reward), "–", "–", "–"])
            continue
        first, last = quarters(values)
        style = "up" if last > first else "down" if last < first else ""
        rows.append(
            [escape(reward), f"{first:.3f}", f"{last:.3f}", f'<span class="{style}">{last - first:+.3f}</span>']
        )
    if any(validated.values()):
        for row, scores in zip(rows, validated.values(), strict=True):
            row.append(_cell(scores[-1] if scores else None, 3))
    return _table(head, rows)


def _steps(records: Sequence[Record], rewards: Iterable[str]) -> str:
    columns = [(reward, f"reward/{reward}/mean", 3) for reward in rewards]
    columns += [column for column in _COLUMNS if any(names.number(record, column[1]) is not None for record in records)]
    rows = [
        [str(record["step"]), *(_cell(names.number(record, metric), digits) for _, metric, digits in columns)]
        for record in records
    ]
    return f'<div class="scroll">{_table(["step", *(escape(label) for label, _, _ in columns)], rows)}</div>'


def _rollouts(folder: RunFolder) -> str:
    return "\n".join(_rollout(label, record) for label, record in samples(folder))


def _rollout(label: str, record: Record) -> str:
    chips = [f"{name} {_cell(names.number(record['rewards'], name), 3)}" for name in record["rewards"]]
    chips.append(f"advantage {_cell(names.number(record, 'advantage'), 3)}")
    about = [f"prompt {record['uid']}", f"sample {record['sample']}"]
    about += [f"{record['tokens']} tokens"] if record.get("tokens") is not None else []
    about += ["left out of the update"] if record.get("keep") is False else []
    texts = [("prompt", "prompt"), ("response", "response"), ("ground_truth", "wanted")]
    parts = [
        f"<small>{title}</small><pre>{escape(str(record[key]))}</pre>"
        for key, title in texts
        if record.get(key) not in (None, "")
    ]
    shown = "".join(f'<span class="chip">{escape(chip)}</span>' for chip in chips)
    heading = f"<h3>{escape(label)}</h3><small>{escape(', '.join(about))}</small>"
    return f'<div class="rollout">{heading}<div>{shown}</div>{"".join(parts)}</div>'


def _cell(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are HTML already."""
    titles = "".join(f"<th>{title}</th>" for title in head)
    body = "\n".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>"
