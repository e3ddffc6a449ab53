"""Stands for ``mrpo train`` where a grid is tested: leaves what it leaves, and has the fault that a file asks for.

The file is FAULTS/<cell>: ``fail STEP``, ``kill STEP`` or ``ask STEP`` (asks the grid to end), once.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

given = dict(word.split("=", 1) for word in sys.argv[2:])
faults, folder = Path(sys.argv[1]), Path(given["run_dir"].strip("'"))
steps = int(given["trainer.total_training_steps"])
file = faults / folder.name
fault, at = file.read_text().split() if file.exists() else ("", "0")
file.unlink(missing_ok=True)


def append(name: str, **record: object) -> None:
    with open(folder / name, "a") as lines:
        lines.write(json.dumps({"time": time.time(), "step": None, "detail": "", **record}) + "\n")


def end(phase: str, code: int, message: str = "") -> None:
    append("events.jsonl", phase=phase, detail=message)
    if message:
        print(f"mrpo: {message}", file=sys.stderr)
    sys.exit(code)


folder.mkdir(parents=True, exist_ok=True)
if not (folder / "config.yaml").exists():
    (folder / "config.yaml").write_bytes((faults / f"{folder.name}.yaml").read_bytes())
(folder / "stop").unlink(missing_ok=True)
append("events.jsonl", phase="attempt")
signal.signal(signal.SIGTERM, lambda *_: (folder / "stop").touch())
metrics = folder / "metrics.jsonl"
done = len(metrics.read_text().splitlines()) if metrics.exists() else 0
for step in range(done + 1, steps + 1):
    if fault and step == int(at):
        if fault == "fail":
            end("failed", 1, "out of memory")
        if fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        os.kill(os.getppid(), signal.SIGTERM)
        while not (folder / "stop").exists():
            time.sleep(0.01)
    append("metrics.jsonl", step=step, **{"reward/correct/mean": 0.1 * step, "train/tokens": 50, "time/step": 0.01})
    if (folder / "stop").exists():
        end("stopped", 75)
    time.sleep(0.01)
end("done", 0)
