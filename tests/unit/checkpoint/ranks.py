"""A tiny model in training, on real FSDP2 ranks over gloo or in a plain process."""

from __future__ import annotations

import multiprocessing
import pickle
import random
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, get_optimizer_state_dict
from torch.distributed.fsdp import fully_shard
from transformers import Qwen2Config, Qwen2ForCausalLM

from mrpo.checkpoint.sharded import ShardedState


class Trainer:
    """A tiny Qwen2 with tied embeddings that learns from random tokens, with every generator at work."""

    def __init__(self, seed: int, ranks: int = 0, **changes: Any):
        torch.manual_seed(seed)
        sizes: dict[str, Any] = {
            "vocab_size": 64,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
        } | changes
        heads: dict[str, Any] = {"num_attention_heads": 2, "num_key_value_heads": 1, "tie_word_embeddings": True}
        self.model = Qwen2ForCausalLM(Qwen2Config(**sizes, **heads))
        if ranks:
            for layer in self.model.model.layers:
                fully_shard(layer)
            fully_shard(self.model)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-2, weight_decay=0.1)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: 1 / (1 + step))
        self.state = ShardedState(self.model, self.optimizer, self.scheduler)

    def train(self, steps: int) -> list[float]:
        losses = []
        for _ in range(steps):
            tokens = torch.randint(0, 64, (2, 8))
            loss = self.model(tokens, labels=tokens).loss * (1 + random.random() + np.random.rand())
            loss.backward()
            self.optimizer.step()
            self.scheduler.step()
            self.optimizer.zero_grad()
            losses.append(loss.item())
        return losses

    def everything(self) -> dict[str, Any]:
        """Whole parameters and moments, and the scheduler, by a way that doesn't go through the code under test."""
        options = StateDictOptions(full_state_dict=True)
        tensors: dict[str, Any] = get_model_state_dict(self.model, options=options)
        optimizer = get_optimizer_state_dict(self.model, self.optimizer, options=options)
        tensors |= {f"{name} {key}": v for name, state in optimizer["state"].items() for key, v in state.items()}  # type: ignore[union-attr]
        found = {name: tensor.detach().numpy().tobytes() for name, tensor in tensors.items()}
        return found | {"groups": str(optimizer["param_groups"]), "scheduler": str(self.scheduler.state_dict())}


def seed_all(seed: int) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def run(ranks: int, act: Callable[..., Any], *args: Any) -> list[Any]:
    """``act(rank, *args)`` on new gloo ranks, processes forked off one that has imported all; what each returned."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    answers: Any = context.Queue()
    meeting = args[0].parent / f"meeting-{time.monotonic_ns()}"
    processes = [
        context.Process(target=_rank, args=(rank, ranks, meeting, answers, act, args)) for rank in range(ranks)
    ]
    for process in processes:
        process.start()
    found = {}
    try:
        for _ in processes:
            rank, error, result = pickle.loads(answers.get(timeout=100))
            assert error is None, error
            found[rank] = result
    finally:
        for process in processes:
            process.join(5 if len(found) == ranks else 0)
            process.kill()
    return [found[rank] for rank in range(ranks)]


def _rank(rank: int, ranks: int, meeting: Path, answers: Any, act: Callable[..., Any], args: Any) -> None:
    torch.set_num_threads(1)
    seed_all(rank)
    error, result = None, None
    try:
        dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=ranks)
        result = act(rank, *args)
        dist.barrier()
        dist.destroy_process_group()
    except BaseException:
        error = traceback.format_exc()
    answers.put(pickle.dumps((rank, error, result)))  # as bytes: a queue passes tensors by reference to this process
