"""Each fault injection in full; the same as running its script. What CI has of them is ``tests/e2e/test_resume.py``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.proof, pytest.mark.timeout(0)]


@pytest.mark.parametrize(
    ("script", "arguments", "shown"),
    [
        ("kill_resume.py", ["100"], "100 kills in"),
        ("kill_resume.py", ["30", "rollout.ahead=1"], "30 kills in"),
        (
            "kill_resume.py",
            ["20", "rollout.ahead=1", "rollout.on_sync=continue", "rollout.max_num_seqs=4"],
            "20 kills in",
        ),
        ("signals.py", ["3"], "nothing left after"),
        ("lost_nodes.py", ["rollout", "trainer"], "5 steps, each once, with 2 nodes lost"),
    ],
    ids=["100 kills", "30 kills ahead", "20 kills while rollouts cross versions", "21 signals", "two lost nodes"],
)
def test_faults_cost_what_they_may(script: str, arguments: list[str], shown: str, tmp_path: Path) -> None:
    command = [sys.executable, str(Path(__file__).with_name(script)), *arguments, "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert shown in done.stdout
