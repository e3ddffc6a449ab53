"""What ``mrpo doctor`` says of this machine."""

from __future__ import annotations

import subprocess
import sys

from tests.gpu.part import Context


def doctor(context: Context) -> None:
    """Its exit code is 1 where a pack lacks what isn't imported, so it is a figure and no requirement."""
    command = [sys.executable, "-m", "mrpo.cli.main", "doctor"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    (context.out / "doctor.txt").write_text(done.stdout + done.stderr)
    context.report.figure("exit code", done.returncode)
    device = next((line for line in done.stdout.splitlines() if " device" in line), "it names no device")
    context.report.figure("device", " ".join(device.split()))
    context.report.require("doctor finds the device", ("GPUs" if context.on_gpu else "CPU") in device)
