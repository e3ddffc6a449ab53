"""Rewards that hang, crash, block and abstain for some responses, and small reward models to serve beside them."""

from __future__ import annotations

from pathlib import Path

FAULTS = """
import ctypes, os, time, zlib

def rarely(response):
    return zlib.crc32(response.encode()) % 16 == 0

def hangs(prompt, response, ground_truth, extra):
    if rarely(response):
        ctypes.PyDLL(None).sleep(600)  # in C, holding the interpreter's lock
    return 1.0

async def blocks(prompt, response, ground_truth, extra):
    if rarely(response):
        time.sleep(600)
    return 1.0

def exits(prompt, response, ground_truth, extra):
    if rarely(response):
        os._exit(3)
    return 1.0

def gives_nan(prompt, response, ground_truth, extra):
    return float("nan") if rarely(response) else 1.0

def abstains(prompt, response, ground_truth, extra):
    return None if rarely(response) else 1.0

def worker(prompt, response, ground_truth, extra):  # is never applicable
    with open(os.path.join(os.path.dirname(__file__), "pids"), "a") as file:
        file.write(f"{os.getpid()}\\n")

def seen(prompt, responses, ground_truth, extras):
    steps = [extra["step"] for extra in extras]
    return [{"score": len(responses), "step": step, "right": extra["rewards"]["correct"]}
            for step, extra in zip(steps, extras)]
"""
CAUSES = {"hangs": "timeout", "blocks": "timeout", "exits": "crash", "gives_nan": "not finite"}
JUDGES = ("helpful", "harmless")


def is_rare(response: str) -> bool:
    """Whether the rewards go wrong for ``response``."""
    namespace: dict = {}
    exec(FAULTS, namespace)
    return namespace["rarely"](response)


def make_judges(model: Path, out: Path) -> None:
    """Small sequence classifiers with ``model``'s tokenizer and different weights, in folders of ``out``."""
    # Here, as pytest-xdist's own process reads conftest.py, and its workers wait for it.
    import torch
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForSequenceClassification

    tokenizer = AutoTokenizer.from_pretrained(model)
    for seed, name in enumerate(JUDGES):
        torch.manual_seed(seed)
        config = Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=128,  # heads of 32: the least that vLLM attends to on a CPU
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=256,
            initializer_range=0.2,
            pad_token_id=tokenizer.pad_token_id,
            num_labels=1,  # type: ignore[call-arg]
        )
        Qwen2ForSequenceClassification(config).save_pretrained(out / name)
        tokenizer.save_pretrained(out / name)
