"""A model with more logits than its tokenizer has tokens, as most published ones are."""

from __future__ import annotations

from pathlib import Path
from typing import cast

ROWS, SCALE = 64, 0.8
"""How many rows are added, and how much smaller they are than the last tokens' own: they get about 6 % of the mass."""


def pad_vocabulary(model: Path, out: Path) -> None:
    """``model`` with ``ROWS`` embeddings more, in ``out``."""
    # Here, as pytest-xdist's own process reads conftest.py, and its workers wait for it.
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, policy = AutoTokenizer.from_pretrained(model), AutoModelForCausalLM.from_pretrained(model)
    own = policy.config.vocab_size
    assert own == len(tokenizer)
    policy.resize_token_embeddings(own + ROWS, mean_resizing=False)
    with torch.no_grad():
        weight = cast(torch.Tensor, policy.get_input_embeddings().weight)
        weight[own:] = SCALE * weight[own - ROWS : own]
    policy.save_pretrained(out)
    tokenizer.save_pretrained(out)
