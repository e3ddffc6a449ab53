"""Engines that hang without dying: named, given up on, and the run goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from mrpo.exit_code import ExitCode
from mrpo.record.phase import Phase
from mrpo.record.run_folder import RunFolder

from .commands import Command

pytestmark = [pytest.mark.proof, pytest.mark.timeout(2400)]


def test_frozen_engines_are_named_and_the_run_starts_again(exact: list[str], tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    command = Command(folder, *exact, "watchdog.warn_after=20", "watchdog.timeout=60")
    command.wait_for("rollout", 3)
    engines = command.processes("vLLMHttpServer")  # takes a while, in which a rollout may end
    command.wait_for("rollout", 4)  # not its first: whom nobody is connected to yet is taken for dead
    for engine in engines:
        engine.suspend()
    assert command.ends() == ExitCode.DONE, command.last_words()
    for phase in (Phase.STALLED, Phase.STUCK, Phase.FAILED):
        details = [event["detail"] for event in command.events if event["phase"] == phase]
        named = [detail for detail in details if "nothing has moved for" in detail and "engines: process " in detail]
        assert any("prompts without an end" in detail for detail in named), details  # a slow start is a stall, too
    assert any("most recent call first" in log.read_text() for log in folder.logs.glob("*.err"))
    assert [event["detail"] for event in command.events if event["phase"] == "resume"] == ["from step 3"]
