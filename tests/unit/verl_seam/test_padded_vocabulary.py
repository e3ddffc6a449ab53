"""Logits beyond the tokenizer's last token have the probability 0: in log-probabilities, entropies and gradients."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from transformers import Qwen2Config
from transformers.modeling_outputs import CausalLMOutputWithPast
from verl.utils.torch_functional import entropy_from_logits, logprobs_from_logits

from mrpo.verl_seam.patches.padded_vocabulary import mask_surplus

pytestmark = pytest.mark.unit

TOKENS, LOGITS = 11, 16
CONFIG = Qwen2Config(vocab_size=LOGITS)


def measured(weight: torch.Tensor, hidden: torch.Tensor, temperature: float, mask: bool) -> dict[str, torch.Tensor]:
    """What verl's engine makes of a model's last layer, and the gradients of both."""
    weight, hidden = weight.clone().requires_grad_(), hidden.clone().requires_grad_()
    output = CausalLMOutputWithPast(logits=cast(torch.FloatTensor, hidden @ weight.T))
    if mask:
        mask_surplus(output, TOKENS, CONFIG)
    assert output.logits is not None
    logits = output.logits / temperature
    log_probs = logprobs_from_logits(logits.flatten(0, 1), torch.arange(6) % TOKENS)
    entropies = entropy_from_logits(logits)
    (log_probs.sum() + 0.3 * entropies.sum()).backward()
    assert weight.grad is not None
    assert hidden.grad is not None
    return {"log_probs": log_probs, "entropies": entropies, "hidden": hidden.grad, "weight": weight.grad[:TOKENS]}


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_padded_model_counts_as_the_one_without_padding(dtype: torch.dtype, temperature: float) -> None:
    torch.manual_seed(0)
    weight, hidden = torch.randn(LOGITS, 8, dtype=dtype), torch.randn(2, 3, 8, dtype=dtype)
    masked = measured(weight, hidden, temperature, mask=True)
    plain = measured(weight[:TOKENS], hidden, temperature, mask=False)
    for name, value in plain.items():
        torch.testing.assert_close(masked[name], value, msg=name)
    assert not torch.allclose(measured(weight, hidden, temperature, mask=False)["log_probs"], plain["log_probs"])


def test_surplus_rows_learn_nothing() -> None:
    weight = torch.randn(LOGITS, 8, requires_grad=True)
    output = CausalLMOutputWithPast(logits=cast(torch.FloatTensor, torch.randn(2, 3, 8) @ weight.T))
    mask_surplus(output, TOKENS, CONFIG)
    assert output.logits is not None
    output.logits.log_softmax(-1)[..., 0].sum().backward()
    assert weight.grad is not None
    assert bool((weight.grad[TOKENS:] == 0).all())
    assert bool((weight.grad[:TOKENS] != 0).any())


def test_a_model_without_padding_is_left_alone() -> None:
    logits = torch.randn(2, 3, TOKENS)
    output = CausalLMOutputWithPast(logits=cast(torch.FloatTensor, logits.clone()))
    mask_surplus(output, TOKENS, CONFIG)
    assert output.logits is not None
    assert torch.equal(output.logits, logits)


def test_fused_kernels_are_refused_for_a_padded_model_only() -> None:
    with pytest.raises(RuntimeError, match=r"16 logits for 11 tokens.*use_fused_kernels=false"):
        mask_surplus(CausalLMOutputWithPast(), TOKENS, CONFIG)
    mask_surplus(CausalLMOutputWithPast(), LOGITS, CONFIG)
