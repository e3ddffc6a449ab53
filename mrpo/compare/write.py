"""What a comparison leaves in its folder; ``docs/compare.md`` lists the files."""

from __future__ import annotations

import base64
import csv
import json
from collections.abc import Iterable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from mrpo.compare import tables
from mrpo.compare.comparison import Comparison
from mrpo.record.replacing import replacing


def write(folder: Path, title: str, comparison: Comparison) -> list[Path]:
    """Write all files, each in one move, and return their paths."""
    from mrpo.compare.figure import write_figure

    folder.mkdir(parents=True, exist_ok=True)
    page, text, data, lines, runs, curves, png = (
        folder / name
        for name in (
            "compare.html",
            "compare.md",
            "compare.json",
            "compare.csv",
            "runs.csv",
            "curves.csv",
            "compare.png",
        )
    )
    with replacing(png) as partial:
        write_figure(partial, title, comparison)
    _write(text, tables.markdown(title, comparison))
    _write(data, json.dumps(comparison.as_json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    _csv(lines, LINE_COLUMNS, _lines(comparison))
    _csv(runs, ("group", "run", "seed", "measure", "final"), _finals(comparison))
    _csv(curves, ("group", "measure", comparison.axis, "median", "q25", "q75", "runs"), _curves(comparison))
    _write(page, _page(title, comparison, png))
    return [page, text, png, lines, runs, curves, data]


LINE_COLUMNS = (
    *("measure", "group", "runs", "mean", "low", "high", "q25", "median", "q75"),
    *("pairs", "difference", "difference_low", "difference_high", "effect_size"),
    *("p", "p_holm", "p_t", "p_t_holm", "verdict", "to_target", "reached"),
)


def _lines(comparison: Comparison) -> Iterator[list[Any]]:
    for line in comparison.lines:
        reached = line.reached
        known = sum(value is not None for value in line.finals.values())
        yield [
            *(line.measure, line.group, known, *(line.mean or (None,) * 3), *(line.quartiles or (None,) * 3)),
            *(line.pairs, *(line.difference or (None,) * 3), line.effect_size),
            *(line.p, line.p_holm, line.p_t, line.p_t_holm, line.verdict),
            *((None, None) if reached is None else (reached.median, sum(at is not None for at in reached.at))),
        ]


def _finals(comparison: Comparison) -> Iterator[list[Any]]:
    seeds = {(group.name, run.name): run.seed for group in comparison.groups for run in group.runs}
    for line in comparison.lines:
        for run, value in line.finals.items():
            yield [line.group, run, seeds[line.group, run], line.measure, value]


def _curves(comparison: Comparison) -> Iterator[list[Any]]:
    for curve in comparison.curves:
        for point in zip(curve.x, curve.median, curve.low, curve.high, curve.runs, strict=True):
            yield [curve.group, curve.measure, *point]


def _csv(path: Path, columns: Iterable[str], content: Iterable[list[Any]]) -> None:
    with replacing(path) as partial, open(partial, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(content)


def _write(path: Path, text: str) -> None:
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")


def _page(title: str, comparison: Comparison, png: Path) -> str:
    """One file that works anywhere: a template that escapes whatever it is given."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    source = resources.files(__package__).joinpath("compare.html").read_text(encoding="utf-8")
    finals = [[*row[:2], *("–" if cell is None else cell for cell in row[2:4]), row[4]] for row in _finals(comparison)]
    return environment.from_string(source).render(
        title=title,
        headings=tables.headings(comparison),
        rows=tables.rows(comparison),
        explanations=tables.explanations(comparison),
        finals=finals,
        png=base64.b64encode(png.read_bytes()).decode("ascii"),
    )
