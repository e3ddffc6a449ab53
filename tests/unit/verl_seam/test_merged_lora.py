"""What engines are sent of an adapted model computes what the adapted model computes, to float32's last digits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from mrpo.prepare.tiny_model import byte_tokenizer, tiny_qwen2
from mrpo.verl_seam.patches.merged_lora import merged_weights, names_in, without_effect

pytestmark = pytest.mark.unit


def adapted(**settings: Any) -> tuple[Any, Any]:
    """A model and the same with an adapter that does something."""
    torch.manual_seed(0)
    base = tiny_qwen2(byte_tokenizer(), layers=1).eval()
    settings = {"target_modules": "all-linear", **settings}
    model: Any = get_peft_model(tiny_qwen2(byte_tokenizer(), layers=1), LoraConfig(r=4, lora_alpha=12, **settings))
    model.load_state_dict(names_in(model, base.state_dict()), strict=False)
    for name, parameter in model.named_parameters():
        if ".lora_" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    return base, model.eval()


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model(input_ids=torch.arange(20)[None]).logits
    return found


@pytest.mark.parametrize("settings", [{}, {"target_modules": ["q_proj", "down_proj"]}, {"exclude_modules": ["q_proj"]}])
def test_the_sent_weights_are_the_adapters_and_the_model_stays_as_it_was(settings: dict[str, Any]) -> None:
    base, model = adapted(**settings)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    sent = dict(merged_weights(model, "cpu"))
    assert sent.keys() == base.state_dict().keys()
    assert {weight.dtype for weight in sent.values()} == {torch.float32}
    expected, of_base = logits(model), logits(base)
    base.load_state_dict(sent)
    torch.testing.assert_close(logits(base), expected, rtol=1e-4, atol=1e-4)
    assert (expected - of_base).abs().max() > 0.1
    after = model.state_dict()
    assert all(torch.equal(after[name], weight) for name, weight in before.items())


def test_a_plain_models_weights_are_taken_under_the_names_of_the_adapted_one() -> None:
    base, model = adapted()
    without_effect(model)
    torch.testing.assert_close(logits(model), logits(base))
    with pytest.raises(RuntimeError, match=r"model\.layers\.7\.x: the trained model has no such weight"):
        names_in(model, {"model.layers.7.x": torch.zeros(1)})


def test_an_adapter_of_an_embedding_is_refused_by_name() -> None:
    _, model = adapted(target_modules=["embed_tokens"])
    with pytest.raises(RuntimeError, match="embed_tokens: the adapter of this kind of layer can't be merged"):
        list(merged_weights(model, "cpu"))
