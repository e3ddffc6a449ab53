"""A comparison of models as tables: one a data source, and in it measures × models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.console import Console
from rich.table import Table

from mrpo.cli._table import table
from mrpo.evaluation.compare import LENGTH, TRUNCATED, Line
from mrpo.evaluation.statistics import Interval


def show(console: Console, lines: Sequence[Line]) -> None:
    """Print all there is to say. No number is ever cut off: in a narrow terminal lines wrap."""
    for _, of_source in groupby(lines, key=lambda line: line.data_source):
        drawn = draw(list(of_source))
        needed = Console(width=1000).measure(drawn).maximum
        Console(file=console.file, width=max(console.width, needed)).print(drawn)
    compared = len({line.model for line in lines}) > 1
    notes = ["In brackets: 95 % bootstrap intervals over prompts."]
    notes += ["Change: prompt by prompt, * where its interval excludes 0."] if compared else []
    for remark in (" ".join(notes), *remarks(lines)):
        console.print(remark, highlight=False, markup=False, soft_wrap=True)


def draw(lines: Sequence[Line]) -> Table:
    """The table of one data source; pass@k for the largest k there is, where a reward has it."""
    several, first = len({line.model for line in lines}) > 1, lines[0]
    most = max((k for line in lines for k in line.pass_at), default=0)
    headings = ["measure", "model", "mean"]
    headings += [f"change from {first.model if len(first.model) <= 20 else 'the first'}"] if several else []
    headings += [f"pass@{most}"] if most else []
    asked = next(line for line in lines if line.measure == LENGTH)  # every rollout has one
    title = f"{first.data_source}: {asked.prompts} prompts, {asked.rollouts} responses of each model"
    return table(title, headings, _rows(lines, several, most), text_columns=2)


def _rows(lines: Sequence[Line], several: bool, most: int) -> Iterator[list[object]]:
    for measure, of_measure in groupby(lines, key=lambda line: line.measure):
        shown, digits = measure, 1 if measure == LENGTH else 3
        for line in of_measure:
            star = "*" if line.difference is not None and line.difference.excludes_zero else ""
            row: list[object] = [shown, line.model, _cell(line.mean, digits)]
            row += [_cell(line.difference, digits, "+", star)] if several else []
            row += [_cell(line.pass_at.get(most), 3)] if most else []
            yield row
            shown = ""


def _cell(interval: Interval | None, digits: int, sign: str = "", star: str = "") -> str | None:
    return None if interval is None else interval.text(digits, sign, star)


def remarks(lines: Sequence[Line]) -> list[str]:
    """What the numbers leave out."""
    return [
        f"{line.measure} failed in {line.failed} responses of {line.model} to {line.data_source}: they are in no mean"
        for line in lines
        if line.failed and line.measure not in (LENGTH, TRUNCATED)
    ]
