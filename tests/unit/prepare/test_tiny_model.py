"""The tiny model: tokenizers that lose nothing, batches whose loss counts responses, and bytes that follow the seed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, Qwen2ForCausalLM

from mrpo.prepare.rows import Message
from mrpo.prepare.tiny_model import (
    Example,
    _batch,
    byte_tokenizer,
    chat_ids,
    deterministic,
    example,
    learn_by_heart,
    learned_tokenizer,
    save,
    tiny_qwen2,
    warm_start,
)

pytestmark = pytest.mark.unit

BYTES = byte_tokenizer(["<answer>", "well, "])
LEARNED = learned_tokenizer(["the cat sat on the mat", "the dog sat"], ["<answer>"])
PROMPT: list[Message] = [{"role": "user", "content": "a+1"}]


@given(st.text(st.characters(codec="utf-8")).filter(lambda text: "<" not in text))
def test_any_text_survives_both_tokenizers(text: str) -> None:
    for tokenizer in (BYTES, LEARNED):
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_whole_texts_are_one_token_each_and_learned_pairs_are_shorter_than_bytes() -> None:
    assert [len(tokenizer.encode("<answer>")) for tokenizer in (BYTES, LEARNED)] == [1, 1]
    assert len(BYTES.encode("well, the cat")) == 1 + len("the cat")
    assert len(LEARNED.encode("the cat sat")) < len("the cat sat")


def test_an_example_is_the_chat_up_to_the_response_and_the_response_to_its_end() -> None:
    prompt, response = example(BYTES, PROMPT, "b")
    assert BYTES.decode(prompt) == "<|im_start|>a+1<|im_end|><|im_start|>"
    assert prompt == chat_ids(BYTES, PROMPT)
    assert BYTES.decode(response) == "b<|im_end|>"


def test_the_loss_counts_responses_and_neither_prompts_nor_padding() -> None:
    ids_NT, labels_NT = _batch([Example([5, 6], [7]), Example([], [8, 9, 10, 11])], pad=0)
    assert ids_NT.tolist() == [[5, 6, 7, 0], [8, 9, 10, 11]]
    assert labels_NT.tolist() == [[-100, -100, 7, -100], [8, 9, 10, 11]]


def test_vocabulary_of_model_and_tokenizer_are_equal() -> None:
    model = tiny_qwen2(LEARNED, layers=1)
    assert model.config.vocab_size == len(LEARNED)
    assert sum(parameter.numel() for parameter in model.parameters()) < 1_000_000


def test_what_is_learned_by_heart_follows_the_seed_and_loads_again(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        learn_by_heart(BYTES, lambda draw: example(BYTES, PROMPT, draw.choice("bc")), tmp_path / name, seed, steps=2)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in "abc"]
    assert weights[0] == weights[1] != weights[2]
    assert AutoTokenizer.from_pretrained(tmp_path / "a").encode("b") == BYTES.encode("b")
    assert Qwen2ForCausalLM.from_pretrained(tmp_path / "a").config.vocab_size == len(BYTES)


def test_a_warm_start_lowers_the_loss_and_takes_a_rate_of_ones_own(tmp_path: Path) -> None:
    def loss(model: Qwen2ForCausalLM) -> float:
        prompt, response = example(BYTES, PROMPT, "b")
        ids, labels = torch.tensor([prompt + response]), torch.tensor([[-100] * len(prompt) + response])
        return float(model(input_ids=ids, labels=labels).loss.item())

    deterministic(0)
    model = tiny_qwen2(BYTES, layers=1)
    before, steps = loss(model), list[int]()

    def examples(step: int) -> list[Example]:
        steps.append(step)
        return [example(BYTES, PROMPT, "b")]

    warm_start(model, examples, 5, rate=lambda step: 1.0)
    assert steps == [0, 1, 2, 3, 4]
    assert loss(model) < before / 2
    frozen = [parameter.clone() for parameter in model.parameters()]
    warm_start(model, examples, 2, rate=lambda step: 0.0)
    assert all(torch.equal(a, b) for a, b in zip(frozen, model.parameters(), strict=True))
    save(model, BYTES, tmp_path)
    assert (tmp_path / "tokenizer.json").is_file()
