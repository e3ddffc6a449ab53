"""An adapter's size by formula: against the adapter that PEFT makes."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from mrpo.config.adapter_size import adapter_parameters
from mrpo.config.data import LoraConfig
from mrpo.config.model_size import UnknownSize, shape_of
from tests.unit.config.test_model_size import built, calculated, described

pytestmark = pytest.mark.unit

UNTIED = described("qwen2", 32, 2, 4, 2, 48, 100)


@pytest.mark.parametrize(
    ("config", "lora"),
    [
        (UNTIED, {}),
        (described("llama", 32, 2, 4, 2, 48, 100, head_dim=12), {"rank": 3}),
        (described("qwen3", 32, 3, 4, 1, 48, 100, head_dim=16, tie_word_embeddings=True), {}),
        (UNTIED, {"target_modules": ["q_proj", "v_proj"]}),
        (UNTIED, {"target_modules": ["0.mlp.down_proj", "lm_head"]}),
        (UNTIED, {"target_modules": r".*\.1\..*_proj"}),
        (UNTIED, {"exclude_modules": ["mlp.up_proj"]}),
        (UNTIED, {"exclude_modules": r".*self_attn.*"}),
    ],
)
def test_parameters_are_those_of_pefts_adapter(config: dict[str, Any], lora: dict[str, Any]) -> None:
    import peft
    import torch

    ours = LoraConfig.model_validate({"rank": 8, **lora})
    theirs = peft.LoraConfig(r=ours.rank, target_modules=ours.target_modules, exclude_modules=ours.exclude_modules)
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = peft.get_peft_model(built(config), theirs)
    found = adapter_parameters(shape_of(config), ours)
    assert found.value == sum(p.numel() for p in model.parameters() if p.requires_grad)
    formula = found.formula
    for name in ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head"):
        formula = formula.replace(f" {name}", "")
    assert calculated(formula) == found.value


def test_names_that_the_model_lacks_are_told() -> None:
    with pytest.raises(UnknownSize, match=r"model\.lora\.target_modules: \['query'\] names none"):
        adapter_parameters(shape_of(UNTIED), LoraConfig(rank=4, target_modules=["query"]))
