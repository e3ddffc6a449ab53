"""How big an adapter is: LoRA's parameters, by formula from the model's shape and ``model.lora``.

A linear map from ``a`` to ``b`` numbers gets matrices of ``r·a`` and ``b·r`` (LoRA, arXiv 2106.09685, section 4.1).
Which maps do is PEFT's rule for ``target_modules`` and ``exclude_modules``: a text is a regular expression of the whole
name, a list holds names or their ends, ``all-linear`` is every map but the output head.
"""

from __future__ import annotations

import re

from mrpo.config.data import LoraConfig
from mrpo.config.model_size import ModelShape, Quantity, UnknownSize


def adapter_parameters(shape: ModelShape, lora: LoraConfig) -> Quantity:
    """Parameters that are trained. Raises UnknownSize if the adapter is of none of the model's linear maps.

    >>> tiny = ModelShape(8, 2, 2, 1, 4, 16, 100, 0, False, 0)
    >>> adapter_parameters(tiny, LoraConfig(rank=4, target_modules=["q_proj"]))
    Quantity(value=128, formula='4 × (2 × (8 + 8) q_proj)', unit='')
    """
    adapted = {name: size for name, size in linear_maps(shape).items() if _is_adapted(name, lora)}
    if not adapted:
        raise UnknownSize(f"model.lora.target_modules: {lora.target_modules!r} names none of the model's linear maps")
    count: dict[tuple[str, int, int], int] = {}
    for name, (a, b) in adapted.items():
        kind = name.rpartition(".")[2], a, b
        count[kind] = count.get(kind, 0) + 1
    formula = " + ".join(f"{number} × ({a} + {b}) {name}" for (name, a, b), number in count.items())
    return Quantity(lora.rank * sum(a + b for a, b in adapted.values()), f"{lora.rank} × ({formula})")


def linear_maps(shape: ModelShape) -> dict[str, tuple[int, int]]:
    """Width of input and output of each linear map that PEFT could adapt, by its name in transformers."""
    h, q, k, m = shape.hidden, shape.q, shape.k, shape.intermediate
    attention = {"q_proj": (h, q), "k_proj": (h, k), "v_proj": (h, k), "o_proj": (q, h)}
    mlp = {"gate_proj": (h, m), "up_proj": (h, m), "down_proj": (m, h)}
    return {
        f"model.layers.{i}.{part}.{name}": size
        for i in range(shape.layers)
        for part, maps in (("self_attn", attention), ("mlp", mlp))
        for name, size in maps.items()
    } | {"lm_head": (h, shape.vocab)}


def _is_adapted(name: str, lora: LoraConfig) -> bool:
    if lora.exclude_modules is not None and _names(lora.exclude_modules, name):
        return False
    if lora.target_modules == "all-linear":
        return name != "lm_head"
    return _names(lora.target_modules, name)


def _names(given: str | list[str], name: str) -> bool:
    if isinstance(given, str):
        return re.fullmatch(given, name) is not None
    return any(name == one or name.endswith(f".{one}") for one in given)
