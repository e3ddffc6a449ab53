"""From what a user names to the runs that are meant: mrpo's run folders, others' files, all cells of a grid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import inf
from pathlib import Path

from mrpo.compare.equal import EqualBudget, read_budget
from mrpo.compare.others import has_events, read_others
from mrpo.compare.run import Run, of_source, read_run, seed_in
from mrpo.record.phase import Phase
from mrpo.record.run_folder import RunFolder

CELLS = "cells"
"""The folder of a grid's cells, each a run's folder, in the grid's folder."""


def find_runs(words: Sequence[str], rewards: Mapping[str, str] | None = None, runs: str = "runs") -> list[Run]:
    """Read every run that is named.

    Args:
        words: a run's folder or its name under ``runs``; a folder that ``mrpo compare`` has filled; a file of others',
            or a folder of TensorBoard's events; each also as ``GROUP=…``, which puts it into that group.
        rewards: a reward's name by others' column.

    Raises:
        ConfigError: there is no such run, or it can't be read.
    """
    found: list[Run] = []
    for word in words:
        group, path = _split(word)
        found += _read(path, group, rewards or {}, runs)
    return _named_apart(found)


def _split(word: str) -> tuple[str | None, str]:
    """A group, if one is given, and what is in it. A path that exists is no group, whatever is in its name."""
    label, equals, path = word.partition("=")
    return (None, word) if not equals or "/" in label or Path(word).exists() else (label, path)


def _read(word: str, group: str | None, rewards: Mapping[str, str], runs: str) -> list[Run]:
    path = Path(word).expanduser()
    if path.name == "metrics.jsonl" and (path.parent / "events.jsonl").is_file():
        path = path.parent
    if (path / CELLS).is_dir():
        entries = (path / CELLS).iterdir()
        cells = [RunFolder(entry) for entry in entries if (entry / "events.jsonl").is_file()]
        cells.sort(key=lambda cell: (next((event["time"] for event in cell.events()), inf), cell.name))  # the grid's
        budget = read_budget(path)
        return [replace(read_cell(cell, budget), group=group) for cell in cells]
    if (path / "metrics.jsonl").is_file() and not (path / "events.jsonl").is_file():
        path = path / "metrics.jsonl"
    if path.is_file() or has_events(path):
        sources = [replace(source, renames=rewards) for source in read_others(path)]
        seeds = [seed_in(Path(source.name)) if len(sources) > 1 else seed_in(path) for source in sources]
        return [replace(of_source(source), seed=seed, group=group) for source, seed in zip(sources, seeds, strict=True)]
    return [read_run(RunFolder.find(word, runs), group)]


def read_cell(folder: RunFolder, budget: EqualBudget | None) -> Run:
    """A grid's cell. One that was stopped as its budget was used up is done."""
    run = read_run(folder)
    return replace(run, state=Phase.DONE, detail="") if budget is not None and budget.is_used_up(run) else run


def _named_apart(found: Sequence[Run]) -> list[Run]:
    """Names are what runs are told apart by: a second one of the same name gets a number."""
    seen: Counter[str] = Counter()
    named = []
    for run in found:
        seen[run.name] += 1
        named.append(run if seen[run.name] == 1 else replace(run, name=f"{run.name} ({seen[run.name]})"))
    return named
