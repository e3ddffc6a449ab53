"""What the engines are sent of a model with an adapter: ``W + scaling · B A``, in the precision that the ranks keep.

verl merges within the trained module, takes it back, and rounds to bfloat16 on the way, whatever the engines compute
in: float32 engines would sample from other weights than the ranks train. Here nothing of the module changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MethodType
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch.distributed.tensor import DTensor
from verl.utils.device import get_device_id
from verl.utils.fsdp_utils import normalize_peft_param_name, offload_fsdp_model_to_cpu
from verl.utils.model import convert_weight_keys

ADAPTED = ".base_layer.weight"


def apply(engine: Any) -> None:
    """Let this engine of a trainer rank send its weights so, where it sends them merged."""
    engine._merged_lora_per_tensor_param = MethodType(sent_weights, engine)


def sent_weights(engine: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """The merged weights by their names in the plain model, each whole on every rank."""
    try:
        yield from merged_weights(engine.module, get_device_id())
    finally:
        if engine._is_offload_param:
            offload_fsdp_model_to_cpu(engine.module)


@torch.no_grad()
def merged_weights(module: Any, device: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """The weights of a PEFT model, merged. The ranks walk through them together, since each is gathered.

    Raises:
        RuntimeError: an adapted layer isn't linear.
    """
    scaling = {name: layer.scaling["default"] for name, layer in module.named_modules() if isinstance(layer, LoraLayer)}
    state = module.state_dict()
    if unknown := [name for name in scaling if f"{name}.lora_A.default.weight" not in state]:
        raise RuntimeError(f"{unknown[0]}: the adapter of this kind of layer can't be merged into its weights")

    def whole(name: str) -> torch.Tensor:
        weight = state[name].to(device, non_blocking=True)
        return weight.full_tensor() if isinstance(weight, DTensor) else weight.detach().clone()

    names: dict[str, Any] = {}
    for name in state:
        names |= dict.fromkeys(normalize_peft_param_name({name: None}), name)
    for plain, name in convert_weight_keys(names, module).items():
        layer, weight = name.removesuffix(ADAPTED), whole(name)
        if layer != name and layer in scaling:
            a, b = (whole(f"{layer}.lora_{which}.default.weight").float() for which in "AB")
            weight = weight.float().addmm(b, a, alpha=scaling[layer]).to(weight.dtype)
        yield plain, weight


def names_in(module: Any, plain: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights of a plain model by their names in this PEFT model of it. Raises RuntimeError if it lacks one."""
    name_of: dict[str, str] = {}
    for name in module.state_dict():
        name_of |= dict.fromkeys(normalize_peft_param_name({name: None}), name)
    if unknown := sorted(plain.keys() - name_of.keys()):
        raise RuntimeError(f"{unknown[0]}: the trained model has no such weight")
    return {name_of[name]: weight for name, weight in plain.items()}


@torch.no_grad()
def without_effect(module: Any) -> None:
    """Let the adapter add nothing: its second matrices become 0, as they begin."""
    for name, parameter in module.named_parameters():
        if ".lora_B." in name:
            parameter.zero_()
