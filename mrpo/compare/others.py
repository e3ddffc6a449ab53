"""Runs of other libraries: ``metrics.jsonl`` or CSV, TensorBoard's event folders, CSV exports of wandb.

A file becomes one run, except a chart's export of wandb, whose columns are ``RUN - METRIC``: it becomes one a run. What
is recorded more than once for a step (validation beside training, a resumed run) is merged, and the later value counts.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mrpo.compare.run import Source
from mrpo.config.flatten import flatten
from mrpo.errors import ConfigError, usable
from mrpo.record import jsonl
from mrpo.record.jsonl import Record

STEPS = ("step", "_step", "Step", "global_step", "train/global_step", "training/global_step", "trainer/global_step")
"""Columns that may hold the step, the first that is there."""
_CHART = re.compile(r"(.+) - (.+?)(__MIN|__MAX)?")


def read_others(path: Path) -> list[Source]:
    """All runs of a file, or of a folder with TensorBoard's events.

    Raises:
        ConfigError: it isn't of a kind that is known, or has no step.
        CorruptLineError: a line of JSON is broken.
    """
    if path.is_dir():
        return [_merged(path.name, path, _events(path))]
    with usable("run", path):
        if path.suffix in (".jsonl", ".ndjson"):
            name = path.parent.resolve().name if path.stem == "metrics" else path.stem
            return [_merged(name, path, (_flat(record) for _, record in jsonl.read_input(path)))]
        if path.suffix == ".csv":
            return _csv(path)
    raise ConfigError(
        f"run: given {path}, allowed: a run's folder, a folder of TensorBoard's events, or a .jsonl or .csv file."
    )


def has_events(path: Path) -> bool:
    return path.is_dir() and any(path.glob("events.out.tfevents.*"))


def _flat(record: Mapping[str, Any]) -> Record:
    """One level; verl's own file logger has all metrics in ``data``."""
    return {name.removeprefix("data."): value for name, value in flatten(record)}


def _csv(path: Path) -> list[Source]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        rows = [{name: _number(text) for name, text in row.items() if name} for row in csv.DictReader(file)]
    names = list(rows[0]) if rows else []
    charts = {match[1]: None for name in names if (match := _CHART.fullmatch(name))}
    if not charts:
        return [_merged(path.stem, path, rows)]
    found = []
    for run in charts:
        columns = {m[2]: n for n in names if (m := _CHART.fullmatch(n)) and m[1] == run and not m[3]}
        parts = [
            {step: row[step] for step in STEPS if step in row} | {metric: row[name] for metric, name in columns.items()}
            for row in rows
        ]
        kept = [part for part in parts if any(part[metric] is not None for metric in columns)]
        found.append(_merged(run, path, kept))
    return found


def _number(text: Any) -> float | None:
    """None for whatever is no finite number: an empty cell, a text, NaN."""
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def _events(path: Path) -> list[Record]:
    if not has_events(path):
        raise ConfigError(f"run: given {path}, which is neither a run's folder nor one of TensorBoard's events.")
    try:
        from tensorboard.backend.event_processing.event_accumulator import SCALARS, TENSORS, EventAccumulator
        from tensorboard.util.tensor_util import make_ndarray
    except ImportError as error:
        raise ConfigError(f"run: given {path}, which tensorboard reads, and it can't be imported: {error}.") from None
    events = EventAccumulator(str(path), size_guidance={SCALARS: 0, TENSORS: 0}).Reload()
    records: list[Record] = []
    for tag in events.Tags()[SCALARS]:
        records += [{"step": event.step, tag: event.value} for event in events.Scalars(tag)]
    for tag in events.Tags()[TENSORS]:  # how newer writers keep scalars
        values = [(event.step, make_ndarray(event.tensor_proto)) for event in events.Tensors(tag)]
        records += [{"step": step, tag: float(value)} for step, value in values if _is_number(value)]
    return records


def _is_number(value: Any) -> bool:
    return value.shape == () and value.dtype.kind in "fiu"


def _merged(name: str, path: Path, records: Iterable[Record]) -> Source:
    """One record a step, by step."""
    by_step: dict[float, Record] = {}
    key = None
    for record in records:
        key = key if key in record else next((step for step in STEPS if step in record), None)
        step = None if key is None else record[key]
        if isinstance(step, (int, float)) and not isinstance(step, bool):
            values = {column: value for column, value in record.items() if column != key and value is not None}
            by_step.setdefault(step, {"step": step}).update(values)
    if not by_step:
        raise ConfigError(f"run: given {path}, which has no step. Allowed: one of {', '.join(STEPS)} in each line.")
    return Source(name, [by_step[step] for step in sorted(by_step)])
