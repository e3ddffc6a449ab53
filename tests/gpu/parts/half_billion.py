"""A Qwen2 of half a billion parameters, made from its config: what a step takes, and if its memory was foreseen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mrpo.config.load import load_run_config
from mrpo.config.model_size import read_shape
from mrpo.config.plan import make_plan
from mrpo.record.run_folder import RunFolder
from tests.gpu.part import Context
from tests.gpu.runs import agreement, placed, speed, train
from tests.gpu.runs import half_billion as overrides

QWEN2_HALF_BILLION = {
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "vocab_size": 151_936,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
}
FACTOR = 2.0
"""How far from the peak an estimate may be and still be of use."""


def make_model(folder: Path, device: str) -> None:
    """Fresh weights, and the quickstart's tokenizer: what it lacks of the vocabulary is masked on both sides."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from mrpo.prepare.tiny_model import byte_tokenizer, save

    tokenizer = byte_tokenizer(["<answer>", "</answer>"])
    shape: dict[str, Any] = {**QWEN2_HALF_BILLION, "bos_token_id": None, "eos_token_id": tokenizer.eos_token_id}
    torch.manual_seed(0)
    with torch.device(device):
        model: Any = Qwen2ForCausalLM(Qwen2Config(**shape, pad_token_id=tokenizer.pad_token_id))
    save(model.to(torch.bfloat16), tokenizer, folder)


def half_billion(context: Context) -> None:
    """Compiled, with CUDA graphs, as by default."""
    model = context.out / "half_billion"
    make_model(model, context.device)
    folder = train(context, "half_billion", overrides(model))
    records = folder.metrics()
    context.report.all({**speed(folder), **agreement(records)})
    lengths = [record["rollout/response_length/mean"] for record in records]
    context.report.figure("response length, mean", sum(lengths) / len(lengths))


def memory(context: Context) -> None:
    """``mrpo plan``'s estimate of the rank that the part before has run, against torch's peak."""
    folder = RunFolder(context.run_dir("half_billion"))
    model = context.out / "half_billion"
    config, _ = load_run_config(["recipe=quickstart", *placed(context.on_gpu), *overrides(model)])
    plan = make_plan(config, {config.model.path: read_shape(config.model.path)}, None, "gpu")
    planned = (plan.memory["trainer rank"]["total"].value or 0) / 2**30
    peak = max(record["train/perf/max_memory_allocated_gb"] for record in folder.metrics())
    context.report.all({"planned, GiB": planned, "torch.cuda.max_memory_allocated, GiB": peak})
    context.report.figure("planned / allocated", planned / peak)
    context.report.require(f"within a factor of {FACTOR}", 1 / FACTOR <= planned / peak <= FACTOR)
