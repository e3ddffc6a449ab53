"""The CPU variant's data and models: ``python prepare_cpu.py [--source FOLDER] --out FOLDER --seed SEED``.

Real prompts by ``prepare_data.py``'s own functions, a few of each data set. The policy is a Qwen2 of a million
parameters with a tokenizer learnt from the prompts, warm-started to write such texts, so that responses differ in
length. The two reward models are Qwen2 classifiers with random weights: their scores mean nothing, but they are served
and asked as real ones are.
"""

from __future__ import annotations

import argparse
import random
import runpy
import time
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM, Qwen2ForSequenceClassification

DATA = runpy.run_path(str(Path(__file__).with_name("prepare_data.py")))
MOST_PROMPT = 96
"""Tokens of the longest prompt."""
TRAINED, EVALUATED, LEARNT_FROM = 64, 4, 3000
"""Rows to train on, rows of each data set to evaluate on, and prompts that the tokenizer is learnt from."""
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>{% endif %}"
)
STEPS, BATCH, MOST_RESPONSE = 120, 16, 40
"""Warm-start steps, texts in each, and tokens of the longest."""

Row = dict[str, Any]


def build_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """Bytes, and what byte-pair encoding finds in ``texts``."""
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=1024, initial_alphabet=alphabet, special_tokens=specials, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=TEMPLATE
    )


def shape(tokenizer: PreTrainedTokenizerFast, layers: int, **more: Any) -> Qwen2Config:
    return Qwen2Config(
        vocab_size=len(tokenizer),  # more would let engine and trainer disagree on probabilities
        hidden_size=128,  # heads of 32: the least that vLLM attends to on a CPU
        intermediate_size=384,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **more,
    )


def warm_start(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, texts: list[str], seed: int) -> float:
    """Supervised steps: to any text, another one is the answer. Returns the last loss."""
    draw = random.Random(seed)
    start, end = tokenizer.convert_tokens_to_ids("<|im_start|>"), tokenizer.eos_token_id
    encoded = [ids for text in texts if len(ids := tokenizer.encode(text)) < MOST_RESPONSE]
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01, betas=(0.9, 0.98))
    loss = torch.tensor(0.0)
    for _ in range(STEPS):
        pairs = [(draw.choice(encoded), draw.choice(encoded)) for _ in range(BATCH)]
        rows = [[start, *asked, end, start, *said, end] for asked, said in pairs]
        longest = max(map(len, rows))
        ids_NT = torch.tensor([row + [tokenizer.pad_token_id] * (longest - len(row)) for row in rows])
        labels_NT = ids_NT.masked_fill(ids_NT == tokenizer.pad_token_id, -100)
        loss = model(input_ids=ids_NT, labels=labels_NT, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return loss.item()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--source", default=DATA["DOWNLOAD"])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    start = time.time()
    torch.set_num_threads(1)  # a model this small only loses by more, and sums must not depend on their number
    torch.manual_seed(options.seed)
    rows = {name: DATA["rows_of"](name, options.source) for name in DATA["FILES"]}
    texts = [row["prompt"][-1]["content"] for row in rows["train"][:LEARNT_FROM]]
    tokenizer = build_tokenizer(texts)

    def fits(row: Row) -> bool:
        text = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, tokenize=False)
        return len(tokenizer.encode(text)) <= MOST_PROMPT

    for name, of_name in rows.items():
        number = TRAINED if name == "train" else EVALUATED
        chosen: list[Row] = []
        for row in of_name:
            if len(chosen) < number and fits(row):
                chosen.append(row)
        DATA["write"](options.out, name, chosen)
    policy = Qwen2ForCausalLM(shape(tokenizer, 4, tie_word_embeddings=True, initializer_range=0.06))
    loss = warm_start(policy, tokenizer, texts, options.seed)
    judges = {
        name: Qwen2ForSequenceClassification(shape(tokenizer, 2, num_labels=1, initializer_range=0.2))
        for name in ("helpful", "harmless")
    }
    for name, model in {"model": policy, **judges}.items():
        model.save_pretrained(options.out / name)
        tokenizer.save_pretrained(options.out / name)
    print(f"{sum(p.numel() for p in policy.parameters())} parameters, loss {loss:.3f}, {time.time() - start:.0f} s")


if __name__ == "__main__":
    main()
