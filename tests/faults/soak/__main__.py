"""Train for an hour, with faults and without, and look at what grows.

``python -m tests.faults.soak [--minutes M] --out FOLDER`` (``make soak``) trains the quickstart with two engines. For a
seventh of the time it kills a reward worker and both engines, stops the run, goes on, kills the command's own process
and goes on, again and again; then it leaves the run alone for hundreds of steps. Every few seconds it notes memory,
descriptors and threads of every process by role, shared memory, and the files and bytes of the run folder, the
temporary folder and logs (``samples.jsonl``). It prints a line for each, with its growth per 1000 steps after the
warm-up, writes ``verdict.json`` and ``soak.png``, and exits with 1 if something grows that shouldn't, if a fault costs
more than it may, or if anything is left behind.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mrpo.record import jsonl
from mrpo.record.run_folder import RunFolder

from .drive import Soak
from .judge import Verdict, judge, longest_attempt
from .picture import draw
from .sample import Sample, Sampler

FAULTS_SHARE, SAMPLE_SECONDS, WARM_UP = 0.15, 6.0, 150
QUIET_LOG = 0.1
"""Logs that grow by fewer MiB per 1000 steps aren't in the table; they are in ``verdict.json``."""


def soak(run: RunFolder, out: Path, minutes: float) -> list[str]:
    """Returns what a fault must not have come to. The samples are in ``samples.jsonl``."""
    began = time.monotonic()
    temporary = Path(tempfile.mkdtemp(prefix="soak-", dir="/tmp"))  # short, as sockets lie in it
    os.environ["TMPDIR"] = str(temporary)
    sampler = Sampler(run, temporary, out / "samples.jsonl", SAMPLE_SECONDS)
    sampler.start()
    drive = Soak(run, sampler, lambda text: print(f"[{(time.monotonic() - began) / 60:5.1f} min] {text}", flush=True))
    while True:
        drive.faults()
        if time.monotonic() - began > FAULTS_SHARE * minutes * 60:
            break
    drive.undisturbed(began + minutes * 60)
    sampler.stop()
    if left := [str(path) for path in temporary.rglob("*")]:
        drive.troubles.append(f"left in the temporary folder: {', '.join(left[:10])}")
    else:
        temporary.rmdir()
    return drive.troubles


def table(verdicts: list[Verdict]) -> Table:
    shown = Table("role", "figure", "start", "end", "per 1000 steps", "allowed", "verdict", "")
    for v in verdicts:
        if v.role.startswith("log:") and not v.grows and abs(v.slope) < QUIET_LOG:
            continue
        grows = "GROWS" if v.grows else "flat" if not v.why else "steady"
        numbers = [f"{value:,.2f}" for value in (v.start, v.end, v.slope)]
        shown.add_row(v.role, v.figure, *numbers, f"{v.bound:g}", grows, v.why)
    return shown


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--warm-up", type=int, default=WARM_UP, help="steps that are not judged")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--judge", action="store_true", help="judge the samples that are there, train nothing")
    options = parser.parse_args()
    out: Path = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    troubles = [] if options.judge else soak(RunFolder(out / "run"), out, options.minutes)
    samples: list[Sample] = jsonl.read(out / "samples.jsonl")  # type: ignore[assignment]
    try:
        verdicts = judge(samples, options.warm_up)
    except ValueError as error:
        verdicts, troubles = [], [*troubles, str(error)]
    Console(width=160).print(table(verdicts))
    draw(samples, verdicts, out / "soak.png")
    longest = longest_attempt(samples)
    minutes, steps = (longest[-1]["time"] - longest[0]["time"]) / 60, longest[-1]["step"] - longest[0]["step"]
    results = {
        "minutes": round((samples[-1]["time"] - samples[0]["time"]) / 60, 1),
        "undisturbed_minutes": round(minutes, 1),
        "undisturbed_steps": steps,
        "attempts": samples[-1]["attempt"],
        "troubles": troubles,
        "figures": [asdict(verdict) for verdict in verdicts],
    }
    (out / "verdict.json").write_text(json.dumps(results, indent=1))
    for trouble in troubles:
        print(f"trouble: {trouble}")
    for verdict in verdicts:
        if verdict.grows:
            print(f"grows: {verdict}")
    print(f"{results['minutes']} minutes, {results['attempts']} attempts, {steps} steps undisturbed")
    return int(bool(troubles) or any(verdict.grows for verdict in verdicts))


if __name__ == "__main__":
    sys.exit(main())
