"""``mrpo audit`` on a million rollouts, as a user runs it: a process of its own, the picture included.

python tests/benchmarks/advantages/audit_speed.py [--rows 1000000]
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "rollouts.jsonl")
        write_rollouts(file, options.rows)
        command = [sys.executable, "-m", "mrpo.cli.main", "audit", str(file), "--plot", str(Path(folder, "audit.png"))]
        start = time.perf_counter()
        subprocess.run(command, check=True)
        seconds = time.perf_counter() - start
        print(f"{options.rows:,} rollouts, {file.stat().st_size / 2**20:.0f} MiB: {seconds:.1f} s")


def write_rollouts(file: Path, rows: int) -> None:
    draw = random.Random(0)
    with file.open("w") as out:
        for i in range(rows):
            correct, formatted, brevity = draw.random() < 0.5, draw.random() < 0.9, draw.random()
            out.write(
                f'{{"prompt_id": "p{i // 8}", "correct": {int(correct)}, "format": {int(formatted)}, '
                f'"brevity": {brevity:.4f}, "response": "some text {i}"}}\n'
            )


if __name__ == "__main__":
    main()
