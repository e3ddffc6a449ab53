"""Everything that one GPU shows, part by part, within ``--seconds``: one JSON and one table.

    tests/gpu/run.sh --out FOLDER                          # all parts
    tests/gpu/run.sh --out FOLDER --only doctor,strict     # these
    tests/gpu/run.sh --out FOLDER --only advantages --device cpu     # a part without a GPU, in small

``FOLDER/gpu.json`` and ``FOLDER/gpu.md`` are written anew after each part, and ``FOLDER/logs.tar.gz`` at the end. Exit
code 0: all that was asked for was shown; 1: something wasn't; 2: there is no GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.gpu.part import Part
from tests.gpu.table import table

NO_GPU = "there is no GPU on this machine, so nothing of the GPU path can be shown. Allowed: --device cpu --only PART."
OF_A_LOG = 1 << 20
"""Bytes of a file that is kept."""
ON_A_CPU = 10
"""Times as long a part may take there."""


def main(
    arguments: Sequence[str] | None = None, parts: Sequence[Part] | None = None, program: str = "tests.gpu.part"
) -> int:
    """``program`` is the module that runs a part."""
    options = parsed(arguments)
    if options.device == "cuda" and not any(Path("/dev").glob("nvidia[0-9]*")):
        print(f"tests/gpu/run.sh: {NO_GPU}", file=sys.stderr)
        return 2
    known = {part.name: part for part in parts or all_parts() if options.device == "cuda" or not part.needs_gpu}
    names = options.only.split(",") if options.only else list(known)
    if unknown := [name for name in names if name not in known]:
        print(
            f"--only: given {unknown[0]}, allowed with --device {options.device}: {', '.join(known)}", file=sys.stderr
        )
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    work = options.work or Path(tempfile.mkdtemp(prefix="mrpo-gpu-"))
    (work / "runs").mkdir(parents=True, exist_ok=True)
    began, shown = time.monotonic(), []
    for name in names:
        left = options.seconds - (time.monotonic() - began)
        shown.append(show(known[name], program, options.device, work, left))
        print(f"{name}: {shown[-1]['outcome']}, {shown[-1]['seconds']:.0f} s", flush=True)
        write(options.out, options.device, shown, time.monotonic() - began)
    keep_logs(work, options.out / "logs.tar.gz")
    print((options.out / "gpu.md").read_text())
    return 0 if all(part["outcome"] == "passed" for part in shown) else 1


def all_parts() -> Sequence[Part]:
    from tests.gpu.parts import PARTS  # once it is known that there is something to run

    return PARTS


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", type=Path, default=Path("build/gpu/shown"), help="for the JSON, the table and the logs"
    )
    parser.add_argument("--work", type=Path, help="for runs and models; default: a temporary folder")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--only", help="names of parts, with commas; default: all")
    parser.add_argument("--seconds", type=float, default=420, help="for all parts; those left then are not run")
    return parser.parse_args(arguments)


def show(part: Part, program: str, device: str, work: Path, left: float) -> dict[str, Any]:
    """Run one in a process of its own, and end all that it started. Never raises for what happens in it."""
    found: dict[str, Any] = {"part": part.name, "outcome": "not run", "seconds": 0.0}
    if left < part.seconds / 4:
        return found | {"error": "no time was left"}
    limit, began = min(part.seconds * (1 if device == "cuda" else ON_A_CPU), left), time.monotonic()
    file = work / f"{part.name}.json"
    file.unlink(missing_ok=True)
    command = [sys.executable, "-m", program, part.name, "--out", str(work), "--device", device]
    with (work / f"{part.name}.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            code: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            end(process)
    found["seconds"] = time.monotonic() - began
    found |= json.loads(file.read_text()) if file.is_file() else {"error": f"it left nothing, exit code {code}"}
    if code is None:
        found |= {"outcome": "timed out", "error": f"not done after {limit:.0f} s"}
    else:
        found["outcome"] = "passed" if code == 0 else "failed"
    if code:
        found["error"] = found.get("error") or (f"exit code {code}" if not found.get("unmet") else None)
    return found


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill it and all its descendants, also those in sessions of their own, as Ray's are."""
    import psutil

    try:
        tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        tree = []
    for member in tree:
        try:
            member.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    process.wait()


def write(out: Path, device: str, shown: list[dict[str, Any]], seconds: float) -> None:
    content = {"machine": machine(device), "seconds": seconds, "parts": shown}
    (out / "gpu.json").write_text(json.dumps(content, indent=1))
    (out / "gpu.md").write_text(table(content))


def machine(device: str) -> dict[str, Any]:
    """The card, the date, and the versions that the figures are of."""
    from importlib.metadata import PackageNotFoundError, version

    def found(name: str) -> str:
        try:
            return version(name)
        except PackageNotFoundError:
            return "not installed"

    versions = {name: found(name) for name in ("torch", "vllm", "verl", "ray", "transformers", "flash-attn")}
    card = "CPU"
    if device == "cuda":
        asked = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
        try:
            card = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
        except (OSError, subprocess.SubprocessError) as error:
            card = f"unknown: {error}"
    date = datetime.now(UTC).strftime("%Y-%m-%d")
    return {"card": card, "cores": os.cpu_count(), "date": date, "versions": versions}


def keep_logs(work: Path, archive: Path) -> None:
    """What the parts and their runs printed and measured, for whoever asks why."""
    with tarfile.open(archive, "w:gz") as tar:
        for pattern in ("*.json", "*.log", "*.txt", "runs/*.log", "runs/*/*.jsonl", "runs/*/logs/**/*"):
            for file in sorted(work.glob(pattern)):
                if file.is_file() and file.stat().st_size <= OF_A_LOG:
                    tar.add(file, str(file.relative_to(work)))


if __name__ == "__main__":
    raise SystemExit(main())
