"""A response's text is all that the model wrote, but for what ends it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from mrpo.prepare.tiny_model import byte_tokenizer
from mrpo.verl_seam.text import ResponseDecoder, is_truncated

pytestmark = pytest.mark.unit

TOKENIZER = byte_tokenizer([])
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


def test_padding_ends_no_response(tokenizer: PreTrainedTokenizerFast) -> None:
    end = cast(int, tokenizer.convert_tokens_to_ids("<eot>"))
    decoder = ResponseDecoder(tokenizer, [end])
    assert decoder.stops == {tokenizer.eos_token_id, end}
    assert decoder.ends == decoder.stops | {tokenizer.pad_token_id}


@pytest.mark.parametrize(
    ("response", "mask", "truncated"),
    [
        ([7, 7, 7, 7], [1, 1, 1, 1], True),
        ([7, 7, 7, 0], [1, 1, 1, 1], False),  # its end is the last token that there was room for
        ([7, 7, 0], [1, 1, 1], False),
        ([7, 7, 7], [1, 1, 1], False),  # ended by something else, a stop string say
        ([7, 0, 7, 0], [1, 1, 0, 0], True),  # a tool wrote up to the limit, and nobody could answer
        ([7, 0, 7, 7, 7], [1, 1, 0, 1, 1], True),
        ([], [], False),
    ],
)
def test_a_response_is_truncated_if_it_reaches_its_limit_before_its_end(
    response: list[int], mask: list[int], truncated: bool
) -> None:
    assert is_truncated(response, mask, 4, {0}) is truncated


def test_without_room_nothing_was_truncated() -> None:
    assert not is_truncated([], [], 0, {0})


@settings(deadline=None, max_examples=50)
@given(st.text(st.sampled_from("ab \né€😀"), max_size=12), st.booleans())
def test_pieces_are_the_text_whatever_bytes_a_character_takes(text: str, is_cut: bool) -> None:
    decoder = ResponseDecoder(TOKENIZER)
    ids = TOKENIZER.encode(text)
    ids = ids[: len(ids) // 2] if is_cut else [*ids, TOKENIZER.eos_token_id]
    pieces = decoder.pieces(ids)
    assert len(pieces) == len(ids)
    assert "".join(pieces) == TOKENIZER.decode(ids, skip_special_tokens=False)
    assert "\ufffd" not in "".join(pieces[:-1])
    if not is_cut:
        assert pieces[-1] == TOKENIZER.eos_token


def test_bytes_that_are_no_character_are_shown_once_it_is_known() -> None:
    wild = TOKENIZER.encode("😀")[:2] + TOKENIZER.encode("a")
    assert ResponseDecoder(TOKENIZER).pieces(wild) == ["", "", "\ufffda"]


def test_a_piece_keeps_the_space_that_a_text_would_not_begin_with() -> None:
    words = Tokenizer(models.WordLevel({"▁so": 0, "▁what": 1, "ever": 2, "<unk>": 3}, unk_token="<unk>"))
    words.decoder = decoders.Metaspace()
    decoder = ResponseDecoder(PreTrainedTokenizerFast(tokenizer_object=words))
    assert decoder.pieces([0, 1, 2, 1]) == ["so", " what", "ever", " what"]
