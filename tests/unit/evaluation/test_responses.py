"""Answers by transformers alone."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
import torch

from mrpo.evaluation.responses import Sampling, respond
from mrpo.prepare.tiny_model import byte_tokenizer, save, tiny_qwen2

pytestmark = pytest.mark.unit


def test_logits_beyond_the_tokenizer_are_never_sampled(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tokenizer = byte_tokenizer()
    plain, padded = tiny_qwen2(tokenizer, layers=1), tiny_qwen2(tokenizer, layers=1)
    padded.load_state_dict(plain.state_dict())
    padded.resize_token_embeddings(len(tokenizer) + 64, mean_resizing=False)
    with torch.no_grad():
        padded_rows = cast(torch.Tensor, padded.get_input_embeddings().weight)[len(tokenizer) :]
        padded_rows *= 40  # they would get nearly all of the probability
    for name, model in (("plain", plain), ("padded", padded)):
        save(model, tokenizer, tmp_path / name)
    for sampling in (Sampling(max_tokens=8), Sampling(n=2, temperature=1.0, max_tokens=8)):
        answers = [respond(str(tmp_path / name), ["a"], sampling) for name in ("plain", "padded")]
        assert [[one.tokens for one in many] for many in answers[1]] == [[8] * sampling.n]
        assert all(one.text for many in answers[1] for one in many)  # of tokens that don't exist it would be empty
        if sampling.temperature == 0:
            assert answers[0] == answers[1]
