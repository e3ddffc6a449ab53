"""A part of the run: a process of its own, which leaves what it finds as it finds it.

``python -m tests.gpu.part NAME --out OUT --device DEVICE`` runs one. A part that raises, hangs or is killed so takes
nothing from the others, and what it had found by then is there.
"""

from __future__ import annotations

import argparse
import json
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

Figure = float | str | bool


class Report:
    """What a part has found so far, in ``file`` after each finding."""

    def __init__(self, file: Path):
        self.file = file
        self.figures: dict[str, Figure] = {}
        self.unmet: list[str] = []
        self.error: str | None = None

    def figure(self, name: str, value: Figure) -> None:
        self.figures[name] = round(value, 9) if isinstance(value, float) else value
        self.write()

    def all(self, figures: Mapping[str, Figure]) -> None:
        for name, value in figures.items():
            self.figure(name, value)

    def require(self, what: str, holds: bool) -> None:
        """Go on either way: the figures that follow may say why it doesn't hold."""
        if not holds:
            self.unmet.append(what)
            self.write()

    def write(self) -> None:
        self.file.write_text(json.dumps({"figures": self.figures, "unmet": self.unmet, "error": self.error}))


@dataclass(frozen=True)
class Context:
    """What a part is given."""

    device: str
    """"cuda", or "cpu", where the parts that can are tried in small."""
    out: Path
    """Where runs and logs lie, of all parts: some look at another's."""
    report: Report

    @property
    def on_gpu(self) -> bool:
        return self.device == "cuda"

    def run_dir(self, name: str) -> Path:
        return self.out / "runs" / name

    def sized(self, on_gpu: int, on_cpu: int) -> int:
        return on_gpu if self.on_gpu else on_cpu


class Part(NamedTuple):
    """One thing to show. ``seconds`` is its time limit on a GPU."""

    name: str
    seconds: float
    run: Callable[[Context], None]
    needs_gpu: bool = False


def seconds(device: str, call: Callable[[], Any]) -> tuple[float, Any]:
    """How long ``call`` takes, the device's work included, and what it returns."""
    import torch

    synchronize = torch.cuda.synchronize if device == "cuda" else (lambda: None)
    synchronize()
    begin = time.perf_counter()
    result = call()
    synchronize()
    return time.perf_counter() - begin, result


def main() -> int:
    from tests.gpu.parts import PARTS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=[part.name for part in PARTS])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", choices=("cuda", "cpu"), required=True)
    options = parser.parse_args()
    part = next(part for part in PARTS if part.name == options.name)
    report = Report(options.out / f"{part.name}.json")
    report.write()
    try:
        part.run(Context(options.device, options.out, report))
    except Exception as error:
        traceback.print_exc()
        report.error = f"{type(error).__name__}: {error}"
        report.write()
    return 1 if report.error or report.unmet else 0


if __name__ == "__main__":
    raise SystemExit(main())
