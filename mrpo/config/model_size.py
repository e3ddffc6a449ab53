"""How big a model is: parameters and bytes, by formula from its ``config.json``. Nothing is loaded or downloaded.

Dense decoders with gated MLPs and RMS norms: the families ``llama``, ``qwen2`` and ``qwen3``. Of any other the size is
unknown, and that is what is said. In formulas ``h`` is the hidden size, ``q`` and ``k`` the widths of all query and all
key heads, ``m`` the MLP's width, ``L`` the layers, ``b`` the bytes of a number.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from mrpo.config.model_files import find_model_file

FAMILIES = ("llama", "qwen2", "qwen3")
BYTES = {"float32": 4, "bfloat16": 2}
"""By the names of ``dtype`` in the configuration."""


class UnknownSize(ValueError):
    """A model's size is unknown; the message says why."""


class Quantity(NamedTuple):
    """A number, and the arithmetic that gave it, for a reader to check."""

    value: float | None
    """None: unknown, and ``formula`` says why."""
    formula: str
    unit: str = ""
    """"B": bytes."""

    @property
    def whole(self) -> int:
        """The value of a known count."""
        assert self.value is not None
        return int(self.value)


@dataclass(frozen=True)
class ModelShape:
    """What the sizes follow from."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    biases: int
    """Parameters of a layer that are biases."""
    head_norms: bool
    """Queries and keys are normalized (Qwen3)."""
    head: int
    """Parameters of an output head that isn't the embedding again."""

    @property
    def q(self) -> int:
        return self.heads * self.head_dim

    @property
    def k(self) -> int:
        return self.kv_heads * self.head_dim

    @property
    def layer(self) -> Quantity:
        """Parameters of a layer: ``2h(q + k)`` attention, ``3hm`` MLP, biases, norms."""
        h, m, norms = self.hidden, self.intermediate, 2 * self.hidden + 2 * self.head_dim * self.head_norms
        formula = (
            f"2 × {h} × ({self.q} + {self.k}) attention + 3 × {h} × {m} MLP + {self.biases} biases + {norms} norms"
        )
        return Quantity(2 * h * (self.q + self.k) + 3 * h * m + self.biases + norms, formula)

    @property
    def root(self) -> Quantity:
        """Parameters outside the layers."""
        formula = f"{self.vocab} × {self.hidden} embedding + {self.hidden} norm + {self.head} head"
        return Quantity(self.vocab * self.hidden + self.hidden + self.head, formula)

    @property
    def parameters(self) -> Quantity:
        formula = f"{self.layers} layers × ({self.layer.formula}) + {self.root.formula}"
        return Quantity(self.layers * self.layer.whole + self.root.whole, formula)

    def layer_activations(self, width: int) -> Quantity:
        """Bytes a token that a layer keeps for its backward pass, with flash attention.

        A norm keeps its input in float32 and its output before scaling, ``(4 + b)h``; linear maps keep their inputs,
        ``2bh``; attention keeps queries, keys, values and its output, ``2b(q + k)``; the MLP ``4bm``.
        """
        h, attention, m = self.hidden, self.q + self.k, self.intermediate
        normalized = 2 * h + attention * self.head_norms
        value = (4 + width) * normalized + width * (2 * h + 2 * attention + 4 * m)
        return Quantity(value, f"({4 + width} × {normalized} + {width} × (2 × {h} + 2 × {attention} + 4 × {m}))", "B")


def trainer_memory(
    shape: ModelShape,
    ranks: int,
    width: int,
    tokens: int,
    recompute: bool,
    reference: bool = False,
    adapter: int = 0,
) -> dict[str, Quantity]:
    """Bytes of one FSDP2 rank in an update: an upper estimate, since not all of it is there at the same time.

    Parameters, gradients and moments are float32 and sharded over ``ranks``. What computes is gathered, ``width`` bytes
    a number: all outside the layers and two layers, the current and the next. ``tokens`` is a micro-batch; with
    ``recompute`` (gradient checkpointing) a layer keeps its input only, and one at a time keeps everything. With
    ``reference`` a second model's parameters lie beside. Of a model with an ``adapter`` of so many parameters only
    those have gradients and moments. Not in it: the CUDA context, workspaces, fragmentation.
    """
    p, layers, kept = shape.parameters.whole, shape.layers, shape.layer_activations(width)
    trained, weights = adapter or p, f"({p:,} + {adapter:,})" if adapter else f"{p:,}"
    activations = (tokens * layers * kept.whole, f"{tokens} × {layers} × {kept.formula}")
    if recompute:
        formula = f"{tokens} × ({layers} × {width} × {shape.hidden} + {kept.formula})"
        activations = (tokens * (layers * width * shape.hidden + kept.whole), formula)
    root, layer = shape.root.whole, shape.layer.whole
    parts = {
        "parameters, float32": (4 * (p + adapter) / ranks, f"4 × {weights} / {ranks}"),
        "gradients, float32": (4 * trained / ranks, f"4 × {trained:,} / {ranks}"),
        "AdamW's two moments, float32": (8 * trained / ranks, f"8 × {trained:,} / {ranks}"),
        "gathered to compute": (width * (root + 2 * layer), f"{width} × ({root:,} + 2 × {layer:,})"),
        "activations of a micro-batch": activations,
        "logits and their gradient": (2 * width * tokens * shape.vocab, f"2 × {width} × {tokens} × {shape.vocab}"),
    }
    if reference:
        parts["reference model, float32"] = (4 * p / ranks, f"4 × {p:,} / {ranks}")
    total = Quantity(sum(value for value, _ in parts.values()), "sum of these", "B")
    return {**{name: Quantity(*part, "B") for name, part in parts.items()}, "total": total}


def engine_memory(shape: ModelShape, width: int, parallel: int, sequences: int, length: int) -> dict[str, Quantity]:
    """Bytes of a vLLM engine on each of its ``parallel`` devices: weights, and the KV cache that it would take to hold
    ``sequences`` of ``length`` tokens at once. A token is ``2·L·k·b`` over the devices, each with one key head or more.
    """
    p, heads = shape.parameters.whole, max(1, shape.kv_heads // parallel)
    longest = length * 2 * shape.layers * heads * shape.head_dim * width
    formula = f"{length} × 2 × {shape.layers} × {heads} × {shape.head_dim} × {width}"
    return {
        "weights": Quantity(width * p / parallel, f"{width} × {p:,} / {parallel}", "B"),
        "KV cache of a longest sequence": Quantity(longest, formula, "B"),
        "KV cache of max_num_seqs": Quantity(sequences * longest, f"{sequences} × {formula}", "B"),
    }


def read_shape(path: str) -> ModelShape:
    """Of a local folder, or of a hub name that the local cache holds. Raises UnknownSize, also if there is none."""
    file = find_model_file(path, "config.json")
    if file is None:
        raise UnknownSize(f"config.json of {path} not found locally")
    try:
        return shape_of(json.loads(file.read_text()))
    except (OSError, ValueError) as error:
        raise UnknownSize(f"{file}: {error}") from None


def shape_of(config: Mapping[str, Any]) -> ModelShape:
    """The shape that a config.json describes; what it leaves out has the family's default in transformers. Raises
    UnknownSize for another family, another kind of output, or a size that isn't given."""
    family = config.get("model_type") if isinstance(config, Mapping) else None
    if family not in FAMILIES:
        raise UnknownSize(f"model_type {family!r} is not counted here, only {', '.join(FAMILIES)}")

    def size(name: str, default: int | None = None) -> int:
        value = default if config.get(name) is None else config[name]
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UnknownSize(f"{name} is {value!r}, not a whole number above 0")
        return value

    h, heads, m, vocab = map(size, ("hidden_size", "num_attention_heads", "intermediate_size", "vocab_size"))
    kv_heads = size("num_key_value_heads", heads if family == "llama" else 32)
    head_dim = size("head_dim", 128 if family == "qwen3" else h // heads)
    biases = (heads + 2 * kv_heads) * head_dim if family == "qwen2" or config.get("attention_bias") else 0
    if family != "qwen2" and config.get("attention_bias"):
        biases += h
    if family == "llama" and config.get("mlp_bias"):
        biases += 2 * m + h
    layers, head = size("num_hidden_layers"), _head(config, h, vocab)
    return ModelShape(h, layers, heads, kv_heads, head_dim, m, vocab, biases, family == "qwen3", head)


def _head(config: Mapping[str, Any], hidden: int, vocab: int) -> int:
    architecture = (config.get("architectures") or ["ForCausalLM"])[0]
    if architecture.endswith("ForSequenceClassification"):
        return hidden * (config.get("num_labels") or len(config.get("id2label") or "01"))  # two labels by default
    if not architecture.endswith("ForCausalLM"):
        raise UnknownSize(f"architecture {architecture!r} is not counted here")
    return 0 if config.get("tie_word_embeddings", False) else hidden * vocab
