"""``mrpo launch local``: the same command again while there is more to do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mrpo.launch.local import keep_running

pytestmark = pytest.mark.unit


def exits_with(folder: Path, *codes: int) -> list[str]:
    """A command that exits with the next of these codes each time."""
    (folder / "codes").write_text("".join(f"{code}\n" for code in codes))
    code = f'cd {folder}; read -r code < codes; sed -i 1d codes; echo run >> runs; exit "$code"'
    return ["bash", "-c", code]


def runs(folder: Path) -> int:
    return len((folder / "runs").read_text().splitlines())


def test_a_run_that_saved_is_started_again_until_it_is_done(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert keep_running(exits_with(tmp_path, 75, 75, 75, 75, 0)) == 0
    assert runs(tmp_path) == 5
    assert "attempt 5" in capfd.readouterr().out


def test_bad_input_is_not_tried_again(tmp_path: Path) -> None:
    assert keep_running(exits_with(tmp_path, 2)) == 2
    assert runs(tmp_path) == 1


def test_crashes_in_a_row_end_it_and_a_save_starts_the_count_anew(tmp_path: Path) -> None:
    assert keep_running(exits_with(tmp_path, 1, 1, 75, 1, 1, 139, 0)) == 139
    assert runs(tmp_path) == 6


def test_asked_to_end_it_passes_the_signal_on_and_starts_nothing_more(tmp_path: Path) -> None:
    saves = f"cd {tmp_path}; trap 'echo saved >> runs; exit 75' USR1; echo > ready; while :; do sleep 0.05; done"
    code = f"from mrpo.launch.local import keep_running; raise SystemExit(keep_running(['bash', '-c', {saves!r}]))"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while not (tmp_path / "ready").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGUSR1)
        assert process.wait(timeout=30) == 75
    finally:
        process.kill()
    assert runs(tmp_path) == 1
