"""The rendered job on a real SLURM of three nodes on this machine; the same as ``tests/slurm/run.sh SCENARIO``.

CI runs ``resume`` where there is a SLURM; the others are proofs, which take half an hour.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(1800)

PROOFS = ("rollout-nodes", "seeds", "lost-node", "train", "train-apart", "compare")
MISSING = [name for name in ("slurmctld", "slurmd", "munged", "sbatch") if shutil.which(name) is None]


@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (Debian: slurm-wlm, munge)")
@pytest.mark.skipif(os.geteuid() != 0, reason="SLURM's daemons are started as root")
@pytest.mark.parametrize(
    "scenario",
    [
        pytest.param("resume", marks=pytest.mark.e2e),
        *(pytest.param(name, marks=pytest.mark.proof) for name in PROOFS),
    ],
)
def test_a_job_is_signalled_requeued_and_goes_on(scenario: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    script = Path(__file__).with_name("run.sh")
    folder = tmp_path_factory.mktemp("s") / "slurm"  # short: SLURM's sockets lie in it
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "FOLDER": str(folder)}
    command = ["bash", str(script), scenario, "recipe=quickstart", "interrupt.slurm_margin=60"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1700, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]
