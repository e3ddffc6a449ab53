"""What a run's processes have in their environment, and for how long this one has it."""

from __future__ import annotations

import os

import pytest

from mrpo.driver.environment import in_effect

pytestmark = pytest.mark.unit


def test_a_runs_variables_are_gone_when_the_next_run_of_the_command_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or models of a second start would not be downloaded, as that of the first one lay here."""
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    before, of_run = dict(os.environ), {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}

    def failing_run() -> None:
        with in_effect(of_run):
            assert os.environ == before | of_run
            raise KeyError

    with pytest.raises(KeyError):
        failing_run()
    assert os.environ == before
