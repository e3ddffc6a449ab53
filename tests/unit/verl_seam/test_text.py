"""A response's text is all that the model wrote, but for what ends it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from mrpo.prepare.tiny_model import byte_tokenizer
from mrpo.verl_seam.text import ResponseDecoder

pytestmark = pytest.mark.unit

TEXT = "<think>\nso</think><tool_call>f()</tool_call>"


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    made = byte_tokenizer([])
    made.add_special_tokens(
        {"additional_special_tokens": ["<think>", "</think>", "<tool_call>", "</tool_call>", "<eot>"]}
    )
    return made


def test_tags_that_the_tokenizer_calls_special_stay(tokenizer: PreTrainedTokenizerFast) -> None:
    ids = tokenizer.encode(TEXT)
    assert "<think>" not in tokenizer.decode(ids, skip_special_tokens=True)
    assert ResponseDecoder(tokenizer)(ids) == TEXT


def test_the_ends_go(tokenizer: PreTrainedTokenizerFast) -> None:
    ids = tokenizer.encode(TEXT)
    assert ResponseDecoder(tokenizer)([*ids, tokenizer.eos_token_id, tokenizer.pad_token_id]) == TEXT
    assert ResponseDecoder(tokenizer)([tokenizer.eos_token_id]) == ""
    assert ResponseDecoder(tokenizer)([]) == ""


def test_what_the_generation_config_says_ends_a_response_too(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    eot = tokenizer.convert_tokens_to_ids("<eot>")
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [tokenizer.eos_token_id, eot]}))
    ids = tokenizer.encode(f"{TEXT}<eot>")
    assert ResponseDecoder(tokenizer)(ids) == f"{TEXT}<eot>"
    assert ResponseDecoder.of_model(tokenizer, str(tmp_path))(ids) == TEXT
