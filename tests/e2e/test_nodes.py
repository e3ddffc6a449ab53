"""A node of a Ray cluster dies in the middle of a step, and the run goes on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e


def test_a_lost_rollout_node_costs_neither_a_step_nor_an_attempt(tmp_path: Path, quickstart: Path) -> None:
    """The short form of what anyone can run: the script kills the trainer's node as well if it isn't told which."""
    script = Path(__file__).parents[1] / "faults" / "lost_nodes.py"
    command = [sys.executable, str(script), "rollout", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=580, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 steps, each once, with 1 nodes lost" in done.stdout
