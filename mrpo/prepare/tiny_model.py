"""A Qwen2 of a million parameters or fewer with a tokenizer of its own, to run a recipe's whole path on a CPU.

A warm start of a minute on a few written examples lets its rewards differ between rollouts; it is no model of anything.
The same seed gives the same bytes::

    deterministic(seed)
    tokenizer = learned_tokenizer(texts, whole=["<answer>", "</answer>"])
    model = tiny_qwen2(tokenizer, positions=256)
    warm_start(model, lambda step: [example(tokenizer, messages, response) for …], steps=160)
    save(model, tokenizer, out / "model")

``N`` rows of one batch, ``T`` tokens of the longest.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedModel, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from mrpo.prepare.rows import Message

VOCABULARY, LEARNING_RATE = 1024, 3e-3
END_OF_TEXT, START_OF_TURN, END_OF_TURN = SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>{% endif %}"
)


class Example(NamedTuple):
    """Token ids of a prompt, and of the response that is learned; the loss counts the response alone."""

    prompt: list[int]
    response: list[int]


def deterministic(seed: int) -> None:
    """Seed torch, and let each operation compute on one thread: the order of sums must not depend on the number of
    threads, and on tensors this small an operation only loses by more."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)


def byte_tokenizer(whole: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """A token for each byte, and one for each text of ``whole``."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*SPECIALS, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.add_special_tokens(SPECIALS)
    return _with_chat(tokenizer, whole)


def learned_tokenizer(texts: Iterable[str], whole: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """Byte pairs of ``texts``, at most ``VOCABULARY`` tokens, and one for each text of ``whole``."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIALS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return _with_chat(tokenizer, whole)


def chat_ids(tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message]) -> list[int]:
    """Token ids of a prompt, up to where the response begins."""
    chat = [{"role": message["role"], "content": message["content"]} for message in messages]
    text = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    return list(tokenizer.encode(str(text)))


def example(tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message], response: str) -> Example:
    """A prompt, and a response to it that ends its turn."""
    return Example(chat_ids(tokenizer, messages), [*tokenizer.encode(response), tokenizer.eos_token_id])


def tiny_config(
    tokenizer: PreTrainedTokenizerFast, layers: int = 3, intermediate: int = 256, positions: int = 256, **more: Any
) -> Qwen2Config:
    """Four heads of 32, the smallest that vLLM attends to on a CPU; ``more`` is passed on."""
    return Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=positions,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **more,
    )


def tiny_qwen2(tokenizer: PreTrainedTokenizerFast, **shape: int) -> Qwen2ForCausalLM:
    """A policy with fresh weights; ``shape`` is ``tiny_config``'s."""
    return Qwen2ForCausalLM(tiny_config(tokenizer, tie_word_embeddings=True, initializer_range=0.06, **shape))


def warm_start(
    model: PreTrainedModel,
    examples: Callable[[int], Sequence[Example]],
    steps: int,
    rate: Callable[[int], float] | None = None,
) -> None:
    """Supervised steps; prints the last loss.

    Each batch is two parts, the shorter examples and the longer ones, at the same time: a machine with one core does
    both in turn, and comes to the same bytes.

    Args:
        examples: the examples of a step, by its number from 0.
        rate: the learning rate of a step, as a share of ``LEARNING_RATE``. None: one cycle over all steps.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01, betas=(0.9, 0.98))
    schedule: torch.optim.lr_scheduler.LRScheduler
    if rate is None:
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.1)
    else:
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    loss = 0.0
    with ThreadPoolExecutor(2) as threads:
        for step in range(steps):
            batch = examples(step)
            counted = sum(len(response) for _, response in batch)
            parts = list(threads.map(partial(_gradients, model, counted), split(batch)))
            for parameter, *of_parts in zip(model.parameters(), *(gradients for _, gradients in parts), strict=True):
                parameter.grad = torch.stack(of_parts).sum(dim=0)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            loss = sum(loss for loss, _ in parts)
    print(f"model: {sum(p.numel() for p in model.parameters())} parameters, loss {loss:.3f}", flush=True)


def learn_by_heart(
    tokenizer: PreTrainedTokenizerFast,
    write: Callable[[random.Random], Example],
    out: Path,
    seed: int,
    positions: int = 256,
    steps: int = 160,
    batch: int = 16,
) -> None:
    """A fresh policy that has learned what ``write`` draws, saved in ``out`` with its tokenizer."""
    deterministic(seed)
    draw = random.Random(seed)
    model = tiny_qwen2(tokenizer, positions=positions)
    warm_start(model, lambda step: [write(draw) for _ in range(batch)], steps)
    save(model, tokenizer, out)


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write model and tokenizer as transformers, verl and vLLM read them."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _with_chat(tokenizer: Tokenizer, whole: Sequence[str]) -> PreTrainedTokenizerFast:
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens(list(whole))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END_OF_TURN, pad_token=END_OF_TEXT, chat_template=CHAT_TEMPLATE
    )


def split(examples: Sequence[Example]) -> list[list[Example]]:
    """The shorter examples and the longer ones, so that both take about as long, each padded to its own longest. One
    part, where there is one example.

    >>> [[len(e.response) for e in part] for part in split([Example([], [0] * n) for n in (9, 1, 2, 1, 3, 2)])]
    [[1, 1, 2, 2, 3], [9]]
    """
    by_length = sorted(examples, key=lambda e: len(e.prompt) + len(e.response))
    padded = [len(e.prompt) + len(e.response) for e in by_length]
    if len(padded) == 1:
        return [by_length]
    n = min(range(1, len(padded)), key=lambda n: max(n * padded[n - 1], (len(padded) - n) * padded[-1]))
    return [by_length[:n], by_length[n:]]


def _gradients(
    model: PreTrainedModel, counted: int, examples: Sequence[Example]
) -> tuple[float, tuple[torch.Tensor, ...]]:
    """What these examples add to the mean loss over ``counted`` tokens, and to its gradient."""
    ids_NT, labels_NT = _batch(examples, int(model.config.pad_token_id))
    loss = model(input_ids=ids_NT, labels=labels_NT, use_cache=False, num_items_in_batch=counted).loss
    return loss.item(), torch.autograd.grad(loss, list(model.parameters()))


def _batch(examples: Sequence[Example], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """ids_NT, and labels_NT that leave prompts and padding out."""
    longest = max(len(prompt) + len(response) for prompt, response in examples)
    ids_NT = torch.full((len(examples), longest), pad)
    labels_NT = torch.full((len(examples), longest), -100)
    for n, (prompt, response) in enumerate(examples):
        end = len(prompt) + len(response)
        ids_NT[n, :end] = torch.tensor(prompt + response)
        labels_NT[n, len(prompt) : end] = torch.tensor(response)
    return ids_NT, labels_NT
