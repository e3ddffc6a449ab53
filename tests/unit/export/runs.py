"""Run folders with checkpoints of a tiny tied Qwen2, and what was exported of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import AutoModelForCausalLM

from mrpo.checkpoint import tensor_files
from mrpo.checkpoint.sharded import MODEL
from mrpo.checkpoint.store import CheckpointStore
from mrpo.export.choose import Which
from mrpo.export.model import Exported, Options, export
from mrpo.prepare.tiny_model import byte_tokenizer
from mrpo.record.run_folder import RunFolder
from mrpo.step.checkpointing import RANKS_FOLDER
from tests.unit.checkpoint.ranks import Trainer

VALIDATION: dict[int, list[float | None]] = {0: [0.0, 1.0, None], 2: [1.0, 0.5, 0.0], 9: [1.0, 1.0, 1.0]}
"""Scores of the reward ``good`` by step."""


def make_run(folder: Path, save: Callable[[Path], object], *steps: int, lora: Any = None, **settings: Any) -> RunFolder:
    """A run folder with a base model beside it; ``save`` writes the trainer's state of each step into a folder."""
    base = folder.parent / "base"
    if not base.exists():
        Trainer(seed=0).model.config.save_pretrained(base)
        byte_tokenizer(["<answer>"]).save_pretrained(base)
        (base / "generation_config.json").write_text(json.dumps({"eos_token_id": 2}))
        (base / "model.safetensors").write_text("weights, which an export must not take")
    folder.mkdir()
    run = RunFolder(folder)
    content = {
        "recipe": "mine",
        "model": {"path": str(base), **({"lora": lora} if lora else {})},
        "data": {"train_files": ["a.parquet"], "val_files": ["b.parquet"], "train_batch_size": 4},
        "rewards": {"good": {"function": "rewards.py:good", "weight": 0.5}},
        "rollout": {"dtype": "float32"},
        "trainer": {"total_training_steps": 5},
        **settings,
    }
    run.config.write_text(yaml.safe_dump(content))
    (folder / "validation").mkdir()
    for step, scores in VALIDATION.items():
        key = "good" if step == 9 else "score_good"  # as earlier runs wrote it
        lines = (json.dumps({"input": "a", "output": "b", key: score}) + "\n" for score in scores)
        (folder / "validation" / f"{step}.jsonl").write_text("".join(lines))
    store = CheckpointStore(content.get("checkpoint", {}).get("folder") or run.checkpoints, folder / "scratch")
    for step in steps:
        staging = store.staging(step)
        save(staging / RANKS_FOLDER)
        store.publish(staging, step, metrics={"validation/good": 1.0 / step})
    return run


def save_plain(folder: Path) -> None:
    """As one rank without FSDP does."""
    trainer = Trainer(seed=1)
    trainer.train(1)
    trainer.state.save(folder)


def saving(change: Callable[[dict[str, torch.Tensor]], None]) -> Callable[[Path], None]:
    """Save the model's tensors after a change, as a trainer that went wrong might have."""

    def save(folder: Path) -> None:
        tensors = tensors_of(1)
        change(tensors)
        folder.mkdir()
        tensor_files.write_tensors({MODEL + name: tensor for name, tensor in tensors.items()}, folder, None, False)

    return save


def tensors_of(seed: int) -> dict[str, torch.Tensor]:
    """A model's tensors, tied ones once."""
    state = Trainer(seed).model.state_dict()
    del state["lm_head.weight"]
    return dict(state)


def exported(run: RunFolder, which: Which = "last", **options: Any) -> Exported:
    """``mrpo export`` into the folder ``model`` beside the run."""
    return export(run, which, run.path.parent / "model", Options(**options), lambda what, done, size: None)


def log_probs(model: Any) -> torch.Tensor:
    """Of every token after each of a few fixed ones, in float32: TV."""
    with torch.no_grad():
        return model(torch.arange(40)[None]).logits[0].float().log_softmax(-1)


def loaded(folder: Path, **options: Any) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, **options).eval()
