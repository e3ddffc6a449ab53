"""``mrpo doctor --clean`` shows what killed runs left, and removes it only when told to."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mrpo.cli import doctor
from mrpo.cli.main import invoke, main
from mrpo.exit_code import ExitCode
from tests.unit.driver.test_private_folder import killed_owner

pytestmark = pytest.mark.unit


def test_what_a_killed_run_left_is_shown_and_removed_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "temporary_folder", lambda: tmp_path)
    monkeypatch.setattr(doctor, "FALLBACK", tmp_path)
    tmp_path.chmod(0o700)
    dead = killed_owner(tmp_path)
    assert invoke(["doctor", "--clean"]) == ExitCode.DONE
    shown = capsys.readouterr().out
    assert f"left: {dead}" in shown
    assert "mrpo doctor --clean --yes" in shown
    assert dead.exists()
    assert invoke(["doctor", "--clean", "--yes"]) == ExitCode.DONE
    assert f"remove: {dead}" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
    assert invoke(["doctor", "--clean"]) == ExitCode.DONE
    assert capsys.readouterr().out == "nothing is left of killed runs\n"


def test_a_message_moves_no_cursor(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["mrpo", "plan", "recipe=\x1b[31mred"])
    with pytest.raises(SystemExit):
        main()
    assert "\x1b" not in capsys.readouterr().err
