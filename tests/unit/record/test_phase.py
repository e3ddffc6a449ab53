"""Phases have one list of names, and what is written of them is text."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import mrpo
from mrpo.record.phase import ENDS, STEP_PHASES, Phase
from mrpo.record.run_folder import RunFolder

pytestmark = pytest.mark.unit

_FORMER_NAMES = {"trainer.py", "resumable.py"}
"""Modules of mrpo.verl_seam whose phases are still texts."""


def test_a_phase_is_written_as_its_text_and_read_back_equal(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for phase in Phase:
        folder.event(phase)
    assert '"phase":"skip checkpoint"' in folder.events_file.read_text()
    assert [event["phase"] for event in folder.events()] == list(Phase)


def test_no_module_writes_a_phase_that_is_not_in_the_list() -> None:
    found = 0
    for file in Path(mrpo.__path__[0]).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            called = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and bool(node.args)
            if not called or node.func.attr not in ("event", "note"):
                continue
            found += 1
            phase = node.args[0]
            if isinstance(phase, ast.Constant):
                assert file.name in _FORMER_NAMES, f"{file}:{node.lineno}"
                assert phase.value in list(Phase)
    assert found > 20


def test_ends_and_parts_of_a_step_are_different_phases() -> None:
    assert len({*ENDS, *STEP_PHASES}) == len(ENDS) + len(STEP_PHASES)
