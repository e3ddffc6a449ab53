"""A Qwen2 of less than a million parameters with a tokenizer of its own, to run a recipe's whole path on a CPU.

It learns by heart, in well under a minute, what an author of known habits writes to a few prompts, so that its rewards
differ between rollouts. It is no model of anything.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

VOCABULARY, BATCH, LEARNING_RATE = 1024, 16, 3e-3

Messages = list[dict[str, str]]
Author = Callable[[random.Random], tuple[Messages, str]]
"""Draws a prompt and a response to it."""


def build_tokenizer(texts: Sequence[str], whole: Sequence[str]) -> PreTrainedTokenizerFast:
    """Byte pairs of ``texts``; each of ``whole`` is one token."""
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens(list(whole))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template="{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>{% endif %}",
    )


def tokens(tokenizer: PreTrainedTokenizerFast, prompt: Messages) -> list[int]:
    text = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)
    return list(tokenizer.encode(str(text)))


def train(tokenizer: PreTrainedTokenizerFast, author: Author, out: Path, steps: int, positions: int, seed: int) -> str:
    """Teach a fresh model what ``author`` writes, and save it with its tokenizer. Returns a line about it."""
    torch.set_num_threads(1)  # a model this small only loses by more, and sums must not depend on their number
    torch.manual_seed(seed)
    draw = random.Random(seed)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(tokenizer),  # more would let engine and trainer disagree on probabilities
            hidden_size=128,
            intermediate_size=256,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=positions,
            tie_word_embeddings=True,
            initializer_range=0.06,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.1)
    loss = torch.tensor(0.0)
    for _ in range(steps):
        ids_NT, labels_NT = _batch(tokenizer, [author(draw) for _ in range(BATCH)])
        loss = model(input_ids=ids_NT, labels=labels_NT, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return f"model: {sum(p.numel() for p in model.parameters())} parameters, loss {loss.item():.3f}"


def _batch(
    tokenizer: PreTrainedTokenizerFast, written: list[tuple[Messages, str]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """ids_NT, and labels_NT that leave the prompts out. N rows, T tokens of the longest."""
    rows = [(tokens(tokenizer, p), [*tokenizer.encode(r), tokenizer.eos_token_id]) for p, r in written]
    longest = max(len(prompt) + len(response) for prompt, response in rows)
    ids_NT = torch.full((len(rows), longest), tokenizer.pad_token_id)
    labels_NT = torch.full((len(rows), longest), -100)
    for n, (prompt, response) in enumerate(rows):
        end = len(prompt) + len(response)
        ids_NT[n, :end] = torch.tensor(prompt + response)
        labels_NT[n, len(prompt) : end] = torch.tensor(response)
    return ids_NT, labels_NT
