"""Training runs of the parts: the quickstart, colocated on one device."""

from __future__ import annotations

import importlib.util
import statistics
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from mrpo.record.jsonl import Record
from mrpo.record.run_folder import RunFolder
from tests.gpu.part import Context, Figure

REWARDS = ("correct", "tagged", "short")
BESIDE_THE_CONTROLLER = ("rollout", "old_log_prob", "update_actor", "update_weights")
"""Phases of a step in which engines or ranks work."""
MODEL = "verl.actor_rollout_ref.model"
QUICK_START = ["rollout.enforce_eager=true", "verl.actor_rollout_ref.actor.use_torch_compile=false"]
"""Nothing is compiled, which takes longer than a small model runs."""
STRICT = [
    "trainer.determinism=strict",
    "trainer.total_training_steps=6",
    "checkpoint.every=2",
    f"{MODEL}.override_config.attn_implementation=eager",  # the others add up gradients in no fixed order
    f"{MODEL}.use_remove_padding=false",
]


def has_flash_attention() -> bool:
    return importlib.util.find_spec("flash_attn") is not None


def placed(on_gpu: bool) -> list[str]:
    """One rank, and an engine on its device, without validations."""
    found = ["trainer.n_gpus_per_node=1", "rollout.placement=colocated", "trainer.test_freq=-1"]
    found += ["trainer.val_before_train=false", f"trainer.device={'gpu' if on_gpu else 'cpu'}"]
    return [*found, "rollout.gpu_memory_utilization=0.3"] if on_gpu else found


def attention() -> list[str]:
    """verl's ranks take flash attention on a GPU; without the package, torch's own, which takes no packed sequences."""
    if has_flash_attention():
        return []
    return [f"{MODEL}.override_config.attn_implementation=sdpa", f"{MODEL}.use_remove_padding=false"]


def typed(dtype: str) -> list[str]:
    return [f"model.dtype={dtype}", f"rollout.dtype={dtype}"]


def half_billion(model: Path) -> list[str]:
    """Every response is as long as it may be, since the model has learned nothing; nothing is saved."""
    return [
        f"model.path={model}",
        *typed("bfloat16"),
        "model.gradient_checkpointing=true",
        "data.train_batch_size=64",
        "data.max_response_length=512",
        "rollout.max_num_seqs=512",
        "actor.ppo_max_token_len_per_gpu=8192",
        "trainer.total_training_steps=4",
        "trainer.export=none",
        "checkpoint.final=false",
    ]


def command(context: Context, name: str, overrides: Iterable[str]) -> list[str]:
    """Of all parts' runs. Of an option that is given twice the last one counts."""
    given = dict(part.split("=", 1) for part in [*placed(context.on_gpu), *attention(), *overrides])
    words = [f"{key}={value}" for key, value in given.items()]
    program = [sys.executable, "-m", "mrpo.cli.main", "train", "recipe=quickstart"]
    return [*program, f"run_dir={context.run_dir(name)}", *words]


def start(context: Context, name: str, overrides: Iterable[str]) -> subprocess.Popen[bytes]:
    with open(context.run_dir(name).with_suffix(".log"), "ab") as log:
        return subprocess.Popen(command(context, name, overrides), stdout=log, stderr=log)


def train(context: Context, name: str, overrides: Iterable[str]) -> RunFolder:
    """Raises RuntimeError, with what the command printed last, if it fails."""
    code = start(context, name, overrides).wait()
    if code != 0:
        said = context.run_dir(name).with_suffix(".log").read_text(errors="replace")
        raise RuntimeError(f"{name} exited with {code}: {said[-1500:]}")
    return RunFolder(context.run_dir(name))


def rises(records: list[Record], name: str) -> tuple[float, float]:
    """The mean of a reward in the first four steps, and in the last four."""
    means = [record[f"reward/{name}/mean"] for record in records]
    return statistics.fmean(means[:4]), statistics.fmean(means[-4:])


def agreement(records: list[Record]) -> dict[str, Figure]:
    """How much the engine's and the trainer's probabilities of a token differ."""
    return {
        "|engine - trainer|, mean": statistics.fmean(record["rollout/probs_diff/mean"] for record in records),
        "|engine - trainer|, max": max(record["rollout/probs_diff/max"] for record in records),
        "correlation, least": min(record["rollout/probs_diff/pearson"] for record in records),
    }


def speed(folder: RunFolder) -> dict[str, Figure]:
    """Medians of a step's phases after the first step, which compiles, and seconds from the command to its end."""
    records = folder.metrics()
    events, later = folder.events(), records[1:]
    steps = [record["time/step"] for record in later]
    found: dict[str, Figure] = {"start to end of step 1, s": records[0]["time"] - events[0]["time"]}
    found["step, s"] = statistics.median(steps)
    for phase in sorted({name for record in later for name in record if name.startswith("time/")}):
        known = [record[phase] for record in later if phase in record]
        if phase.removeprefix("time/") in (*BESIDE_THE_CONTROLLER, "advantage"):
            found[f"{phase.removeprefix('time/')}, s"] = statistics.median(known)
    elsewhere = [sum(record.get(f"time/{phase}", 0.0) for phase in BESIDE_THE_CONTROLLER) for record in later]
    shares = [1 - there / step for there, step in zip(elsewhere, steps, strict=True)]
    found["controller's share of a step"] = statistics.median(shares)
    found["tokens/s"] = statistics.median(record["train/tokens"] / record["time/step"] for record in later)
    return found
