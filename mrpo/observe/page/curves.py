"""A run's metrics as columns, and what is drawn of them: charts, matrices, and marks of checkpoints and restarts."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import Any

from mrpo.observe.page.charts import MATRICES, SECONDS, VALIDATION, Chart, charts_of
from mrpo.observe.page.columns import numbers, pack, whole
from mrpo.observe.timing import phase_seconds
from mrpo.record import metrics
from mrpo.record.jsonl import Record
from mrpo.record.phase import Phase

MAX_STEPS = 2000
"""Steps that charts have; of a longer run every second, third, … step and the last one."""


def curves_of(records: Sequence[Record], events: Iterable[Record], rewards: Sequence[str]) -> dict[str, Any]:
    """What the page draws of a run.

    Returns:
        ``steps`` and ``metrics`` (columns), ``charts``, ``matrices``, ``marks`` (checkpoints and restarts by step), and
        ``every``: only every so many steps are here.
    """
    columns = _columns(records, rewards)
    every = -(-len(records) // MAX_STEPS) or 1
    chosen = sorted({*range(0, len(records), every), *([len(records) - 1] if records else [])})
    return {
        "steps": pack(array("i", (whole(records[place]["step"]) for place in chosen))),
        "metrics": {name: pack(array("d", (values[place] for place in chosen))) for name, values in columns.items()},
        "charts": [_as_json(chart) for chart in charts_of(columns, rewards)],
        "matrices": [
            {"title": title, "metric": metric, "low": low}
            for title, metric, low in MATRICES
            if any(name.startswith(f"{metric}/") for name in columns)
        ],
        "marks": marks_of(events),
        "every": every,
    }


def _columns(records: Sequence[Record], rewards: Sequence[str]) -> dict[str, array[float]]:
    """Every metric that is a number in some step, and what is worked out of them."""
    names = dict.fromkeys(name for record in records for name in record if name not in ("step", "time"))
    columns = {name: numbers(record.get(name) for record in records) for name in names}
    for reward in rewards:
        found = dict(zip(*metrics.validation(records, reward), strict=True))
        columns[VALIDATION + reward] = numbers(found.get(record["step"]) for record in records)
    columns |= {SECONDS + phase: numbers(seconds) for phase, seconds in phase_seconds(records).items()}
    return {name: values for name, values in columns.items() if any(value == value for value in values)}


def _as_json(chart: Chart) -> dict[str, Any]:
    return chart._asdict() | {"series": [line._asdict() for line in chart.series]}


def marks_of(events: Iterable[Record]) -> list[dict[str, Any]]:
    """Checkpoints, by the step that they stand for the end of, and where the run was started again."""
    marks: dict[tuple[str, int], dict[str, Any]] = {}
    started = False
    for event in events:
        step = event.get("step")
        if event["phase"] == Phase.SAVE and isinstance(step, int):
            marks["checkpoint", step] = {"kind": "checkpoint", "step": step}
        if event["phase"] == Phase.PLAN:
            first = event.get("first_step", 1)
            if started and isinstance(first, int):
                marks["restart", first] = {"kind": "restart", "step": first - 0.5}
            started = True
    return sorted(marks.values(), key=lambda mark: (mark["step"], mark["kind"]))
