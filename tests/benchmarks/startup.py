"""How long until the first step: worker processes forked from one that has done the imports, against each importing.

``python tests/benchmarks/startup.py [ROUNDS]`` trains two steps of the quickstart in turn both ways and prints seconds
from the command to the end of the first step, and their ratio.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mrpo.record.run_folder import RunFolder


def seconds_to_first_step(fork: bool) -> float:
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(Path(folder) / "run")
        command = [sys.executable, "-m", "mrpo.cli.main", "train", "recipe=quickstart", f"run_dir={run.path}"]
        start = time.time()
        subprocess.run(
            [*command, f"trainer.fork_workers={fork}", "trainer.total_training_steps=2"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return float(run.metrics()[0]["time"]) - start


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    seconds_to_first_step(fork=True)  # prepares the recipe, and warms the disk cache for both
    times: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(rounds):
        for fork in (True, False):
            times[fork].append(seconds_to_first_step(fork))
    forked, importing = (statistics.median(times[fork]) for fork in (True, False))
    print(f"to the end of step 1, median of {rounds}: forked {forked:.1f} s, importing {importing:.1f} s", end="; ")
    print(f"ratio {importing / forked:.2f}")


if __name__ == "__main__":
    main()
