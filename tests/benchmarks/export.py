"""Memory and time of an export: a synthetic checkpoint of some gigabytes on disk, against its largest tensor.

``python tests/benchmarks/export.py --out FOLDER [--gigabytes 4] [--ranks 2]`` writes the parts that so many ranks would
leave of a Llama with an embedding that isn't small (float32 weights and two moments, of which only the weights are
read), exports it in a process of its own, and prints what that process held at most beyond its imports.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import AutoModelForCausalLM, LlamaConfig

from mrpo.checkpoint.sharded import MODEL
from mrpo.checkpoint.store import CheckpointStore
from mrpo.export.base_model import layouts_of
from mrpo.prepare.tiny_model import byte_tokenizer
from mrpo.record.run_folder import RunFolder
from mrpo.step.checkpointing import RANKS_FOLDER

HIDDEN, VOCABULARY = 1536, 64_000


def make_run(folder: Path, gigabytes: float, ranks: int) -> RunFolder:
    """A run folder with one checkpoint of about this size."""
    sizes: dict[str, Any] = {"hidden_size": HIDDEN, "intermediate_size": 4 * HIDDEN, "vocab_size": VOCABULARY}
    layer = (4 * HIDDEN + 12 * HIDDEN) * HIDDEN
    layers = max(1, round((gigabytes * 1e9 / 12 - 2 * VOCABULARY * HIDDEN) / layer))
    config = LlamaConfig(
        **sizes, num_hidden_layers=layers, num_attention_heads=12, num_key_value_heads=12, tie_word_embeddings=False
    )
    base = folder / "base"
    config.save_pretrained(base)
    byte_tokenizer().save_pretrained(base)
    run = RunFolder(folder / "run")
    run.path.mkdir()
    content = {
        "recipe": "synthetic",
        "model": {"path": str(base)},
        "data": {"train_files": ["a"], "val_files": ["b"], "train_batch_size": 4},
        "rewards": {"good": {"function": "rewards.py:good"}},
    }
    run.config.write_text(yaml.safe_dump(content))
    with torch.device("meta"):
        layouts = layouts_of(AutoModelForCausalLM.from_config(config))
    store = CheckpointStore(run.checkpoints)
    staging = store.staging(1)
    _write(staging / RANKS_FOLDER, {name: layout.shape for name, layout in layouts.items()}, ranks)
    store.publish(staging, 1)
    return run


def _write(folder: Path, shapes: dict[str, tuple[int, ...]], ranks: int) -> None:
    """As DCP lays it out: each rank's rows of each tensor, one after the other in the rank's file."""
    folder.mkdir()
    index: dict[str, dict[str, object]] = {}
    for rank in range(ranks):
        with open(folder / f"__{rank}_0.distcp", "wb") as file:
            for name, shape in shapes.items():
                rows = torch.arange(shape[0]).chunk(ranks)
                if rank >= len(rows):
                    continue
                part = [len(rows[rank]), *shape[1:]]
                content = torch.randn(part) * 0.02
                for key in (MODEL + name, f"optimizer.{name}.exp_avg", f"optimizer.{name}.exp_avg_sq"):
                    start = file.tell()
                    torch.save(content, file)
                    entry = index.setdefault(key, {"dtype": "float32", "size": list(shape), "parts": []})
                    offsets = [int(rows[rank][0]), *(0 for _ in shape[1:])]
                    entry["parts"].append([offsets, part, f"__{rank}_0.distcp", start, file.tell() - start])  # type: ignore[attr-defined]
    (folder / "index.json").write_text(json.dumps(index))


def export_once(run: Path, out: Path) -> None:
    """In a process of its own: peak memory before the first byte is read, and at the end."""
    from mrpo.export.model import Options, export

    before: list[int] = []

    def report(what: str, done: int, size: int) -> None:
        if not before:
            before.append(_peak())

    began = time.monotonic()
    written = export(RunFolder(run), "last", out, Options(), report)
    print(json.dumps({"seconds": time.monotonic() - began, "grown": _peak() - before[0], "size": written.size}))


def _peak() -> int:
    """Bytes that this process has held at most. (getrusage's number includes the process that started it.)"""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--gigabytes", type=float, default=4.0)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--export", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.export is not None:
        export_once(options.export, options.out)
        return
    for ranks in options.ranks:
        folder = options.out / f"{ranks}-ranks"
        folder.mkdir(parents=True)
        run = make_run(folder, options.gigabytes, ranks)
        on_disk = sum(file.stat().st_size for file in run.checkpoints.rglob("*") if file.is_file())
        command = [sys.executable, __file__, "--out", str(folder / "model"), "--export", str(run.path)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found, largest = json.loads(done.stdout.splitlines()[-1]), 4 * VOCABULARY * HIDDEN
        print(
            f"{ranks} ranks, {on_disk / 1e9:.1f} GB on disk: {found['size'] / 1e9:.2f} GB of bfloat16 in "
            f"{found['seconds']:.0f} s; memory grew by {found['grown'] / 1e6:.0f} MB, "
            f"{found['grown'] / largest:.2f} of the largest tensor ({largest / 1e6:.0f} MB in float32)",
            flush=True,
        )
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
