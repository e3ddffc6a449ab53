"""Cells share the imports of their libraries where these would read the same environment, and only there."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from mrpo.compare import imports, sweep
from mrpo.compare.grid import cells_of
from mrpo.compare.imports import imported_once, shared_variables
from mrpo.driver import fork_client
from mrpo.driver.fork_client import ENV
from mrpo.driver.fork_server import ForkServer

pytestmark = pytest.mark.unit

GRID = ["recipe=quickstart", "trainer.device=cpu", "seed=0,1"]


def planned(out: Path, *more: str) -> list[sweep.Planned]:
    return sweep.plan(cells_of([*GRID, *more]), out, None)


def test_variables_are_those_of_every_cell_but_for_its_folder(tmp_path: Path) -> None:
    found = shared_variables(planned(tmp_path, "trainer.logger=[tensorboard,wandb]"))
    assert found is not None
    assert found["VERL_PLATFORM"] == "cpu"
    assert "OMP_NUM_THREADS" in found
    assert not any(str(tmp_path) in value for value in found.values())
    assert not (tmp_path / sweep.CELLS).exists()


@pytest.mark.parametrize(
    "more",
    [
        ("rollout.replicas=1,2",),  # threads of an engine, by the cores of a machine with several
        ("trainer.fork_workers=false",),
        ("trainer.ray=join",),
    ],
)
def test_cells_that_import_differently_or_not_at_all_share_nothing(
    more: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    assert shared_variables(planned(tmp_path, *more)) is None


def test_a_last_cell_imports_for_itself(tmp_path: Path) -> None:
    assert shared_variables(planned(tmp_path)[:1]) is None


def test_while_entered_a_command_finds_the_libraries_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENV, raising=False)
    monkeypatch.setattr(imports, "ForkServer", partial(ForkServer, before_ray=["colorsys"]))
    code = f"import os, sys; print('colorsys' in sys.modules, os.path.dirname(os.environ['{ENV}']))"
    with imported_once(planned(tmp_path), tmp_path / "log") as shared:
        assert shared
        command = [sys.executable, "-S", fork_client.__file__, "-c", code]
        told, folder = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        assert told == "True"
        assert Path(folder).is_dir()
    assert ENV not in os.environ
    assert not Path(folder).exists()
