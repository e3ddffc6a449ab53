"""Ask a run to stop in each of its phases, and look at how it ends.

``python tests/faults/signals.py TIMES --out FOLDER`` starts the quickstart, and TIMES times for each phase and signal
sends the signal as the phase begins. The run must be saved at the end of the last whole step and exit with the code for
"run the same command again". Then it sends a second signal while a run saves, which must end at once and leave no
process behind. Prints the seconds from the signal to the exit; exits with 1 at the first that isn't as it must be.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from mrpo.checkpoint.store import CheckpointStore
from mrpo.driver.interruption import SAME_REQUEST_SECONDS
from mrpo.exit_code import ExitCode
from mrpo.record.phase import Phase
from mrpo.record.run_folder import RunFolder

STEP = 2
PHASES = ("rollout", "old_log_prob", "advantage", "update_actor", "update_weights", "validate", "save")
AT_ONCE_SECONDS = 2.0
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


def train_until(phase: str, run: RunFolder) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "mrpo.cli.main", "train", "recipe=quickstart", f"run_dir={run.path}"]
    command += ["trainer.total_training_steps=5", "checkpoint.every=1", "trainer.test_freq=1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not any((e["phase"], e["step"]) == (phase, STEP) for e in _events(run)):
        if process.poll() is not None:
            raise SystemExit(f"{run.path} ended with {process.returncode} before {phase}")
        time.sleep(0.01)
    return process


def stop_in(phase: str, number: signal.Signals, run: RunFolder) -> float:
    """Seconds from the signal to the exit."""
    process = train_until(phase, run)
    began = time.monotonic()
    process.send_signal(number)
    code = process.wait()
    last = run.events()[-1]
    saved = CheckpointStore(run.checkpoints).newest_whole().found
    whole = {record["step"] for record in run.metrics()}
    if code != ExitCode.REQUEUE or last["phase"] != Phase.STOPPED or saved is None or saved.step != max(whole):
        raise SystemExit(
            f"{run.path}: exit code {code}, {last['phase']}, saved {saved and saved.step} of steps {whole}"
        )
    return time.monotonic() - began


def stop_twice(second: signal.Signals, code: int, run: RunFolder) -> float:
    """Seconds from the second signal to the end of the last process: Ray's agents look for their head for a while."""
    process = train_until("update_actor", run)
    tree = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    time.sleep(SAME_REQUEST_SECONDS + 0.1)
    began = time.monotonic()
    process.send_signal(second)
    process.wait()
    if process.returncode != code or time.monotonic() - began > AT_ONCE_SECONDS:
        raise SystemExit(f"{run.path}: exit code {process.returncode} after {time.monotonic() - began:.1f} s")
    if left := psutil.wait_procs(tree, timeout=180)[1]:
        raise SystemExit(f"{run.path}: these are left: {left}")
    return time.monotonic() - began


def _events(run: RunFolder) -> list[dict]:
    return run.events() if run.events_file.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("times", type=int)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    for phase in PHASES:
        for time_number in range(options.times):
            number = SIGNALS[time_number % len(SIGNALS)]
            seconds = stop_in(phase, number, RunFolder(options.out / f"{phase}-{time_number}"))
            print(f"{number.name} in {phase}: saved, exit code {ExitCode.REQUEUE}, after {seconds:.1f} s", flush=True)
    for number, code in ((signal.SIGTERM, ExitCode.REQUEUE), (signal.SIGINT, ExitCode.FAILED)):
        seconds = stop_twice(number, code, RunFolder(options.out / f"second-{number.name}"))
        print(f"{number.name} after SIGTERM: exit code {code}, nothing left after {seconds:.1f} s", flush=True)


if __name__ == "__main__":
    main()
