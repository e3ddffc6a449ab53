"""docs/papers.md: every method has its row, and a row's files, options and tests exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import NamedTuple

import pytest

from mrpo.config.load import load_run_config
from mrpo.registry import module_names

pytestmark = pytest.mark.unit

_ROOT = Path(__file__).parents[2]


class Entry(NamedTuple):
    papers: list[str]
    file: str
    options: list[str]
    test: str


def _rows() -> list[Entry]:
    rows = []
    for line in (_ROOT / "docs" / "papers.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("| ") and not line.startswith("| paper |"):
            paper, file, options, test = line.strip("|").split(" | ")
            arxiv = re.findall(r"\[(\d{4}\.\d{5})\]\(https://arxiv\.org/abs/\1\)", paper)
            rows.append(Entry(arxiv, file.strip(" `"), re.findall(r"`([^`]+)`", options), test.strip(" `")))
    return rows


ROWS = _rows()
each_row = pytest.mark.parametrize("row", ROWS, ids=[" ".join(row.options) for row in ROWS])


@pytest.mark.parametrize(
    ("package", "option"),
    [("mrpo.advantages.estimators", "algorithm.estimator"), ("mrpo.budget.allocators", "budget.method")],
)
def test_every_estimator_and_allocator_has_a_row_with_its_file(package: str, option: str) -> None:
    files = {name: f"{package.replace('.', '/')}/{name}.py" for name in module_names(package)}
    named = {(row.options[0], row.file) for row in ROWS}
    assert {(f"{option}={name}", file) for name, file in files.items()} <= named


@each_row
def test_file_exists_and_names_its_source(row: Entry) -> None:
    source = (_ROOT / row.file).read_text(encoding="utf-8")
    assert all(number in source for number in row.papers)


@each_row
def test_test_exists(row: Entry) -> None:
    file, name = row.test.split("::")
    functions = ast.walk(ast.parse((_ROOT / file).read_text(encoding="utf-8")))
    assert name in {node.name for node in functions if isinstance(node, ast.FunctionDef)}


@each_row
def test_options_are_accepted_together(row: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(_ROOT)
    load_run_config(["recipe=quickstart", *row.options])
