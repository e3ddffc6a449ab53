"""Other libraries' own code, called on our rows: oracles of the presets. Shapes: N rollouts, K rewards, T tokens."""

from __future__ import annotations

import ast
import importlib.machinery
import sys
from functools import cache
from pathlib import Path
from types import CodeType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor


def verl_gdpo(
    rewards_NK: Tensor, group_ids_N: Tensor, lengths_N: Tensor, weights: list[float]
) -> tuple[Tensor, Tensor]:
    """The installed verl's GDPO: its advantages (N,T) and the response mask (N,T)."""
    from verl.trainer.ppo.core_algos import compute_gdpo_outcome_advantage

    names = [f"r{k}" for k in range(rewards_NK.shape[1])]
    mask_NT = response_mask(lengths_N)
    prompts_N1 = torch.ones(len(lengths_N), 1, dtype=torch.int64)
    advantages_NT, _ = compute_gdpo_outcome_advantage(
        token_level_rewards=torch.zeros(mask_NT.shape),
        response_mask=mask_NT,
        index=group_ids_N.numpy(),
        config={"gdpo_reward_keys": names, "gdpo_reward_weights": weights},
        non_tensor_batch={name: rewards_NK[:, k].numpy() for k, name in enumerate(names)},
        batch={"prompts": prompts_N1, "attention_mask": torch.cat((prompts_N1, mask_NT), dim=1)},
    )
    return advantages_NT, mask_NT


def response_mask(lengths_N: Tensor) -> Tensor:
    return (torch.arange(int(lengths_N.max())) < lengths_N[:, None]).to(torch.int64)


def trl_advantages(rewards_NK: Tensor, group_size: int, weights: list[float], aggregation: str) -> Tensor:
    """The installed TRL's advantages (N,) of rows sorted by group."""
    names: dict[str, Any] = {
        "torch": torch,
        "rewards_per_func": rewards_NK,
        "num_generations": group_size,
        "device": rewards_NK.device,
        "self": SimpleNamespace(
            multi_objective_aggregation=aggregation,
            reward_weights=torch.tensor(weights, dtype=rewards_NK.dtype),
            reward_funcs=[None] * rewards_NK.shape[1],
            scale_rewards="group",
        ),
    }
    exec(_trl_code(), names)
    return names["advantages"]


def swift_advantages(rewards_NK: Tensor, group_size: int, weights: list[float]) -> Tensor:
    """The installed ms-swift's advantages (N,) of rows sorted by group, with ``scale_rewards`` gdpo."""
    names: dict[str, Any] = {"torch": torch}
    exec(_swift_code(), names)
    weights_K = torch.tensor(weights, dtype=rewards_NK.dtype)
    advantages_N, _ = names["compute_advantages"](rewards_NK, weights_K, group_size, scale_rewards="gdpo")
    return advantages_N


@cache
def _swift_code() -> CodeType:
    """Its function and the one that this calls, compiled from their source: importing their modules takes all of
    ms-swift's dependencies."""
    folder, future = _peer("swift", "ms-swift"), "from __future__ import annotations"
    helper = _find(ast.parse((folder / "utils" / "torch_utils.py").read_text()), "nanstd")
    function = _find(ast.parse((folder / "rl_core" / "advantage.py").read_text()), "compute_advantages")
    return compile(ast.Module([*ast.parse(future).body, helper, function], type_ignores=[]), str(folder), "exec")


def _peer(package: str, name: str) -> Path:
    """Its folder, apart from site-packages: verl changes its ways where it finds TRL."""
    peers = str(Path(sys.prefix, "peers"))
    spec = importlib.machinery.PathFinder.find_spec(package, [peers])
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"{name} is not in {peers}: its preset is NOT checked against its code (make unit installs it)")
    return Path(spec.submodule_search_locations[0])


@cache
def _trl_code() -> CodeType:
    """``GRPOTrainer``'s statements from unscorable mask to advantages, compiled from its own source: the method around
    them needs a model, a tokenizer and a dataset."""
    folder = _peer("trl", "TRL") / "trainer"
    helper = _find(ast.parse((folder / "utils.py").read_text()), "nanstd")
    method = _find(ast.parse((folder / "grpo_trainer.py").read_text()), "_generate_and_score_completions")
    first, last = _assignment(method, "unscorable_mask"), _assignment(method, "advantages")
    block = method.body[method.body.index(first) : method.body.index(last) + 1]
    return compile(ast.Module([helper, *block], type_ignores=[]), str(folder / "grpo_trainer.py"), "exec")


def _find(tree: ast.Module, name: str) -> ast.FunctionDef:
    return next(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == name)


def _assignment(method: ast.FunctionDef, name: str) -> ast.stmt:
    """The first of the method's own statements that assigns ``name``, those inside branches aside."""
    return next(
        statement
        for statement in method.body
        if isinstance(statement, ast.Assign)
        and any(isinstance(t, ast.Name) and t.id == name for t in statement.targets)
    )
