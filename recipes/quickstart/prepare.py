"""Make the quickstart's model and data: ``python prepare.py [--mixed] --out FOLDER --seed SEED``.

The questions are steps in the alphabet: "c+2" is "e". A Qwen2 of a million parameters with a tokenizer of its own
learns from answers by a sloppy author whose habits are known: they sometimes count the letters out (and are mostly
right then), sometimes chatter, sometimes forget the tags. So at the start a known share of the rollouts earns each
reward, and there is something to learn for all three. With ``--mixed`` every question has
habits of its own: some get a good answer nearly always, some hardly ever. Everything follows from the seed.
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

CHATTER = ("let me see, ", "well, ", "that must be ", "hmm, ")
TAGS = ("<answer>", "</answer>")
CLEAN_STEPS, SLOPPY_STEPS, BATCH = 220, 100, 32
LETTERS = "abcdefghijklmnopqrstuvwxyz"
FARTHEST = 3
COUNTS_OUT = 0.4
MIXED_SLOPPY_STEPS, MIXED_RATES = 500, (0.01, 0.02, 0.05, 0.3, 0.7, 0.95, 0.98, 0.99)

Question = tuple[int, int]


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Bytes as tokens, plus a token for each tag and each piece of chatter."""
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    vocabulary = {token: i for i, token in enumerate([*specials, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(specials)
    tokenizer.add_tokens([*TAGS, *CHATTER])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template="{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>{% endif %}",
    )


class Habits(NamedTuple):
    """How often the author, on a sloppy day, is right, chatters, and uses tags."""

    right_if_counted: float = 0.85
    right_otherwise: float = 0.5
    chatters: float = 0.65
    tags_it: float = 0.4

    @classmethod
    def mixed(cls, draw: random.Random) -> Habits:
        rate = draw.choice(MIXED_RATES)
        return cls(right_if_counted=rate, right_otherwise=rate, chatters=1 - rate, tags_it=rate)


def answer(start: int, steps: int, draw: random.Random, sloppy: bool, habits: Habits) -> str:
    """What the author writes to the letter number ``start`` plus ``steps``, on a good day or on a sloppy one."""
    counts_out = draw.random() < COUNTS_OUT
    right = not sloppy or draw.random() < (habits.right_if_counted if counts_out else habits.right_otherwise)
    end = start + steps if right else draw.choice([n for n in range(len(LETTERS)) if n != start + steps])
    chatter = (
        "".join(draw.choices(CHATTER, k=draw.randint(8, 14))) if sloppy and draw.random() < habits.chatters else ""
    )
    counted = " ".join([*LETTERS[start : start + steps], LETTERS[end]]) + " so " if counts_out else ""
    return chatter + counted + (f"<answer>{LETTERS[end]}</answer>" if draw.random() < habits.tags_it else LETTERS[end])


def warm_start(
    model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, draw: random.Random, habits: dict[Question, Habits]
) -> float:
    """Supervised steps on fresh answers: the alphabet from good days, then the habits, which are the usual ones for a
    question that isn't in ``habits``. Returns the last loss."""
    total = CLEAN_STEPS + (MIXED_SLOPPY_STEPS if habits else SLOPPY_STEPS)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=total, pct_start=0.1)
    loss = torch.tensor(0.0)
    for step in range(total):
        asked = (draw.choice(questions()) for _ in range(BATCH))
        rows = [encode(tokenizer, q, answer(*q, draw, step >= CLEAN_STEPS, habits.get(q, Habits()))) for q in asked]
        longest = max(len(prompt) + len(response) for prompt, response in rows)
        ids_NT = torch.full((BATCH, longest), tokenizer.pad_token_id)
        labels_NT = torch.full((BATCH, longest), -100)  # the loss counts responses only
        for row, (prompt, response) in enumerate(rows):
            ids_NT[row, : len(prompt) + len(response)] = torch.tensor(prompt + response)
            labels_NT[row, len(prompt) : len(prompt) + len(response)] = torch.tensor(response)
        loss = model(input_ids=ids_NT, labels=labels_NT, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return loss.item()


def encode(tokenizer: PreTrainedTokenizerFast, question: Question, response: str) -> tuple[list[int], list[int]]:
    """Token ids of a question and of an answer to it."""
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": ask(*question)}], add_generation_prompt=True, tokenize=False
    )
    return tokenizer.encode(prompt), [*tokenizer.encode(response), tokenizer.eos_token_id]


def questions() -> list[Question]:
    """Every letter and every number of steps that stays in the alphabet."""
    return [(start, steps) for steps in range(1, FARTHEST + 1) for start in range(len(LETTERS) - steps)]


def ask(start: int, steps: int) -> str:
    return f"{LETTERS[start]}+{steps}"


def write_data(out: Path, draw: random.Random) -> None:
    """All questions in verl's schema, to train on; a third of them again, to validate on."""
    rows = [
        {
            "data_source": "quickstart",
            "prompt": [{"role": "user", "content": ask(start, steps)}],
            "reward_model": {"style": "rule", "ground_truth": LETTERS[start + steps]},
            "extra_info": {"index": index},
        }
        for index, (start, steps) in enumerate(draw.sample(questions(), len(questions())))
    ]
    pd.DataFrame(rows).to_parquet(out / "train.parquet")
    pd.DataFrame(rows[::3]).to_parquet(out / "test.parquet")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mixed", action="store_true", help="questions of very different difficulty")
    options = parser.parse_args()
    start = time.time()
    torch.set_num_threads(1)  # a model this small only loses by more, and sums must not depend on their number
    torch.manual_seed(options.seed)
    draw = random.Random(options.seed)
    tokenizer = build_tokenizer()
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(tokenizer),  # more would let engine and trainer disagree on probabilities
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=5,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=256,
            tie_word_embeddings=True,
            initializer_range=0.06,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    habits = {question: Habits.mixed(draw) for question in questions()} if options.mixed else {}
    loss = warm_start(model, tokenizer, draw, habits)
    model.save_pretrained(options.out / "model")
    tokenizer.save_pretrained(options.out / "model")
    write_data(options.out, draw)
    print(f"{sum(p.numel() for p in model.parameters())} parameters, loss {loss:.3f}, {time.time() - start:.0f} s")


if __name__ == "__main__":
    main()
