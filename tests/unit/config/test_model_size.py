"""A model's size by formula: against published counts, transformers' own models, and what autograd keeps."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mrpo.config.model_size import (
    FAMILIES,
    Quantity,
    UnknownSize,
    engine_memory,
    read_shape,
    shape_of,
    trainer_memory,
)

pytestmark = pytest.mark.unit


def described(family: str, h: int, layers: int, heads: int, kv: int, m: int, vocab: int, **more: Any) -> dict[str, Any]:
    sizes = {"hidden_size": h, "num_hidden_layers": layers, "intermediate_size": m, "vocab_size": vocab}
    return {"model_type": family, "num_attention_heads": heads, "num_key_value_heads": kv, **sizes, **more}


QWEN_1_5B = described("qwen2", 1536, 28, 12, 2, 8960, 151936, tie_word_embeddings=True)
TIED, WIDE = {"tie_word_embeddings": True}, {"head_dim": 128}


def calculated(formula: str) -> float:
    """What the arithmetic in a formula gives, its words left out."""
    text = re.sub(r"(?<=\d),(?=\d{3})", "", formula).replace("×", "*")
    text = re.sub(r"\b(?!(?:min|ceil|floor)\b)[A-Za-z][\w.'-]*:?", "", text)
    return float(eval(text, {"min": min, "ceil": math.ceil, "floor": math.floor}))


@pytest.mark.parametrize(
    ("name", "config", "published"),
    [
        ("Qwen2.5-0.5B", described("qwen2", 896, 24, 14, 2, 4864, 151936, **TIED), 494_032_768),
        ("Qwen2.5-1.5B", QWEN_1_5B, 1_543_714_304),
        ("Qwen2.5-7B", described("qwen2", 3584, 28, 28, 4, 18944, 152064), 7_615_616_512),
        ("Qwen3-0.6B", described("qwen3", 1024, 28, 16, 8, 3072, 151936, **TIED, **WIDE), 596_049_920),
        ("Qwen3-8B", described("qwen3", 4096, 36, 32, 8, 12288, 151936, **WIDE), 8_190_735_360),
        ("SmolLM2-135M", described("llama", 576, 30, 9, 3, 1536, 49152, **TIED), 134_515_008),
        ("Llama-3.2-1B", described("llama", 2048, 16, 32, 8, 8192, 128256, **TIED), 1_235_814_400),
        ("Llama-3.1-8B", described("llama", 4096, 32, 32, 8, 14336, 128256), 8_030_261_248),
    ],
)
def test_parameters_are_the_published_count(name: str, config: dict[str, Any], published: int) -> None:
    assert shape_of(config).parameters.value == published


SMALL = [
    *(described(family, 32, 2, 4, 2, 48, 100, tie_word_embeddings=t) for family in FAMILIES for t in (True, False)),
    described("llama", 32, 2, 4, 2, 48, 100, attention_bias=True, mlp_bias=True),
    described("llama", 32, 2, 4, 4, 48, 100, head_dim=12),
    described("qwen3", 32, 3, 4, 1, 48, 100, head_dim=16, attention_bias=True),
    *(described(f, 32, 2, 4, 2, 48, 100, architectures=["XForSequenceClassification"], num_labels=3) for f in FAMILIES),
]


@pytest.mark.parametrize("config", SMALL, ids=lambda config: config["model_type"])
def test_parameters_are_those_of_transformers_own_model(config: dict[str, Any]) -> None:
    import torch

    shape = shape_of(config)
    with torch.device("meta"):
        model = built(config)
    assert shape.parameters.value == sum(parameter.numel() for parameter in model.parameters())
    assert calculated(shape.parameters.formula) == shape.parameters.value
    assert shape.parameters.value == shape.layers * shape.layer.whole + shape.root.whole


def built(config: dict[str, Any]) -> Any:
    """transformers' model of a config.json."""
    import transformers

    kind = {"llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3"}[config["model_type"]]
    task = "SequenceClassification" if "architectures" in config else "CausalLM"
    content = {key: value for key, value in config.items() if key not in ("model_type", "architectures")}
    return getattr(transformers, f"{kind}For{task}")(getattr(transformers, f"{kind}Config")(**content, pad_token_id=0))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("width", [2, 4])
def test_activations_are_the_bytes_that_autograd_keeps(family: str, width: int) -> None:
    import torch

    config = described(family, 256, 6, 4, 2, 768, 500, head_dim=64)
    tokens, shape = 128, shape_of(config)
    model = built(config).to({2: torch.bfloat16, 4: torch.float32}[width])
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.model(input_ids=torch.zeros(1, tokens, dtype=torch.int64), use_cache=False)
    measured = sum(tensor.untyped_storage().nbytes() for at, tensor in kept.items() if at not in own)
    found = trainer_memory(shape, 1, width, tokens, recompute=False)["activations of a micro-batch"]
    assert found.value == pytest.approx(measured, rel=0.04)


def test_a_trainer_rank_by_hand() -> None:
    p, layer = 1_543_714_304, 46_797_824
    found = trainer_memory(shape_of(QWEN_1_5B), 8, 2, 4096, recompute=True)
    assert {name: quantity.value for name, quantity in found.items()} == {
        "parameters, float32": p / 2,
        "gradients, float32": p / 2,
        "AdamW's two moments, float32": p,
        "gathered to compute": 2 * (p - 28 * layer + 2 * layer),
        # a layer keeps 2 norms x (4 + 2) x 1536, 2 x 2 x 1536 inputs, 4 x (1536 + 256) attention, 8 x 8960 MLP
        "activations of a micro-batch": 4096 * (28 * 3072 + 18432 + 6144 + 7168 + 71680),
        "logits and their gradient": 2 * 2 * 4096 * 151936,
        "total": 2 * p + 2 * (p - 26 * layer) + 4096 * (86016 + 103424) + 16384 * 151936,
    }


def test_a_reference_model_adds_its_parameters_once() -> None:
    without, beside = (trainer_memory(shape_of(QWEN_1_5B), 4, 4, 64, True, reference) for reference in (False, True))
    assert (beside["total"].value or 0) - (without["total"].value or 0) == 1_543_714_304


def test_recomputing_activations_takes_less_and_more_ranks_take_less() -> None:
    shape = shape_of(QWEN_1_5B)
    choices = [(1, False), (1, True), (2, True), (64, True)]
    totals = [trainer_memory(shape, ranks, 2, 8192, recompute)["total"].whole for ranks, recompute in choices]
    assert totals == sorted(totals, reverse=True)


@pytest.mark.parametrize(("parallel", "key_heads"), [(1, 2), (2, 1), (4, 1)])
def test_an_engine_by_hand(parallel: int, key_heads: int) -> None:
    found = engine_memory(shape_of(QWEN_1_5B), 2, parallel, sequences=10, length=1000)
    assert found["weights"].value == 2 * 1_543_714_304 / parallel
    token = 2 * 28 * key_heads * 128 * 2  # keys and values, bfloat16; a device holds one key head at least
    assert found["KV cache of a longest sequence"].value == 1000 * token
    assert found["KV cache of max_num_seqs"].value == 10_000 * token


def test_every_formula_gives_its_value() -> None:
    shape = shape_of(QWEN_1_5B)
    tables = [trainer_memory(shape, 3, w, 4096, r, True) for w in (2, 4) for r in (True, False)]
    shown: list[Quantity] = [shape.layer, shape.root, shape.layer_activations(2)]
    for table in [*tables, engine_memory(shape, 2, 2, 16, 512)]:
        shown += [quantity for name, quantity in table.items() if name != "total"]
    for quantity in shown:
        assert calculated(quantity.formula) == pytest.approx(quantity.value), quantity


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({**QWEN_1_5B, "model_type": "gemma3"}, "model_type 'gemma3' is not counted here, only llama, qwen2, qwen3"),
        ({**QWEN_1_5B, "model_type": "qwen3_moe"}, "model_type 'qwen3_moe'"),
        ({"hidden_size": 8}, "model_type None"),
        ([1], "model_type None"),
        ({key: value for key, value in QWEN_1_5B.items() if key != "hidden_size"}, "hidden_size is None"),
        ({**QWEN_1_5B, "num_hidden_layers": "28"}, "num_hidden_layers is '28', not a whole number"),
        ({**QWEN_1_5B, "vocab_size": 0}, "vocab_size is 0"),
        ({**QWEN_1_5B, "architectures": ["Qwen2ForTokenClassification"]}, "'Qwen2ForTokenClassification'"),
    ],
)
def test_what_is_not_known_is_said_and_not_guessed(tmp_path: Path, content: Any, told: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(UnknownSize) as caught:
        read_shape(str(tmp_path))
    assert told in str(caught.value)
    assert str(tmp_path / "config.json") in str(caught.value)


@pytest.mark.parametrize("path", ["no-such-org/no-such-model", "/nowhere/at/all", "not a name!", "gpt2"])
def test_a_model_that_is_not_here_is_not_found(path: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UnknownSize, match=f"config.json of {path} not found locally"):
        read_shape(path)


def test_a_folder_without_config_and_one_that_is_broken(tmp_path: Path) -> None:
    with pytest.raises(UnknownSize, match="not found locally"):
        read_shape(str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UnknownSize, match=r"config\.json: Expecting"):
        read_shape(str(tmp_path))


def test_a_hub_name_is_found_in_the_local_cache(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--some--model" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text(json.dumps(QWEN_1_5B))
    (tmp_path / "models--some--model" / "refs").mkdir()
    (tmp_path / "models--some--model" / "refs" / "main").write_text("abc")
    code = "from mrpo.config.model_size import read_shape as r; print(r('some/model').parameters.value)"
    cache = {**os.environ, "HF_HUB_CACHE": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=cache)
    assert done.stdout.strip() == "1543714304"


def test_what_a_config_leaves_out_is_as_in_transformers() -> None:
    bare = dict.fromkeys(("hidden_size", "num_attention_heads", "intermediate_size", "vocab_size"), 8)
    shapes = [shape_of({**bare, "model_type": family, "num_hidden_layers": 1}) for family in FAMILIES]
    assert [(s.kv_heads, s.head_dim, s.head) for s in shapes] == [(8, 1, 64), (32, 1, 64), (32, 128, 64)]
