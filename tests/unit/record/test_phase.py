"""Phases have one list of names, and what is written of them is text."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import mrpo
from mrpo.record.phase import ENDS, STEP_PHASES, Phase
from mrpo.record.run_folder import RunFolder

pytestmark = pytest.mark.unit


def test_a_phase_is_written_as_its_text_and_read_back_equal(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for phase in Phase:
        folder.event(phase)
    assert '"phase":"skip checkpoint"' in folder.events_file.read_text()
    assert [event["phase"] for event in folder.events()] == list(Phase)


def test_no_module_writes_a_phase_as_a_text() -> None:
    phases = 0
    for file in Path(mrpo.__path__[0]).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and node.args):
                continue
            function = node.func
            name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
            if name in ("event", "note"):
                phases += 1
                assert not isinstance(node.args[0], ast.Constant), f"{file}:{node.lineno}"
    assert phases > 20


def test_ends_and_parts_of_a_step_are_different_phases() -> None:
    assert len({*ENDS, *STEP_PHASES}) == len(ENDS) + len(STEP_PHASES)
