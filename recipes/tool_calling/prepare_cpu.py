"""The CPU variant's data and model: ``python prepare_cpu.py [--source FOLDER] --out FOLDER --seed SEED``.

Real rows by ``prepare_data.py``'s own functions: to train on, those of ToolRL's raw data that call tools briefly; to
evaluate on, a few of every benchmark. The model is a Qwen2 of a million parameters with a tokenizer learnt from the
prompts. It gets a short warm start on these very rows, as a sloppy author would answer: the right call, a wrong one
or none, with more or less of a thought, so that no reward is the same for all rollouts of a prompt.
"""

from __future__ import annotations

import argparse
import json
import random
import runpy
import time
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

DATA = runpy.run_path(str(Path(__file__).with_name("prepare_data.py")))
RAW = "dataset/rlla_4k_raw/rlla_sft.json"
MOST_PROMPT, MOST_CALL = 768, 64
"""Tokens of the longest prompt and of the longest right answer."""
TRAINED, EVALUATED = 8, 3
"""Rows to train on, and rows of each source to evaluate on."""
TAGS = ["<think>", "</think>", "<tool_call>", "</tool_call>", "<response>", "</response>"]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>{% endif %}"
)
SHORT, SHORT_BATCH = 100, 12
"""Warm-start steps without the system message, which is most of a prompt."""
FULL, FULL_BATCH = 24, 4
"""Steps with it."""

Row = dict[str, Any]


def raw_rows(file: Path) -> list[Row]:
    """ToolRL's rows with distilled thoughts, of which only the calls are kept, as in RLLA's RL data."""
    rows = []
    for index, line in enumerate(json.loads(file.read_text(encoding="utf-8"))):
        _, _, said = line["output"].partition("</think>")
        if "<tool_call>" in said and "<response>" not in said:
            truth = f"{DATA['THOUGHT']}\n{said.strip()}"
            rows.append(DATA["row"]("rlla", line["instruction"], line["input"], truth, index, "train"))
    return rows


def build_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """Bytes, what byte-pair encoding finds in ``texts``, and a token for each tag."""
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=1024, initial_alphabet=alphabet, special_tokens=specials, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens(TAGS)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=TEMPLATE
    )


def prompt_ids(tokenizer: PreTrainedTokenizerFast, messages: list[dict[str, str]]) -> list[int]:
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return list(tokenizer.encode(text))


def answer(truth: str, others: list[str], draw: random.Random) -> str:
    """What the author writes where ``truth`` is right: often that, sometimes another row's, sometimes out of form."""
    _, _, call = (truth if draw.random() < 0.75 else draw.choice(others)).partition("</think>\n")
    thought = "<think> I should use the tool" + " hm" * draw.choice((0, 0, 4, 8, 12)) + ". </think>\n"
    return (thought if draw.random() < 0.8 else "") + call


def warm_start(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, rows: list[Row], seed: int) -> float:
    """Supervised steps on the author's answers to ``rows``. Returns the last loss."""
    draw = random.Random(seed)
    truths = [row["reward_model"]["ground_truth"] for row in rows]
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01, betas=(0.9, 0.98))
    loss = torch.tensor(0.0)
    for step in range(SHORT + FULL):
        full = step >= SHORT
        prompts, responses = [], []
        for row in draw.choices(rows, k=FULL_BATCH if full else SHORT_BATCH):
            prompts.append(prompt_ids(tokenizer, row["prompt"][0 if full else 1 :]))
            said = answer(row["reward_model"]["ground_truth"], truths, draw)
            responses.append([*tokenizer.encode(said), tokenizer.eos_token_id])
        longest = max(len(p) + len(r) for p, r in zip(prompts, responses, strict=True))
        ids_NT = torch.full((len(prompts), longest), tokenizer.pad_token_id)
        labels_NT = torch.full_like(ids_NT, -100)  # the loss counts responses only
        for i, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
            end = len(prompt) + len(response)
            ids_NT[i, :end] = torch.tensor(prompt + response)
            labels_NT[i, len(prompt) : end] = torch.tensor(response)
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * min(1.0, (step + 1) / 20) * (0.4 if full else 1.0)
        loss = model(input_ids=ids_NT, labels=labels_NT, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return loss.item()


def build_model(tokenizer: PreTrainedTokenizerFast) -> Qwen2ForCausalLM:
    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(tokenizer),  # more would let engine and trainer disagree on probabilities
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            initializer_range=0.06,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def first_of_each(rows: list[Row], number: int) -> list[Row]:
    """At most ``number`` rows of each source."""
    by_source: dict[str, list[Row]] = {}
    for row in rows:
        by_source.setdefault(row["data_source"], []).append(row)
    return [row for group in by_source.values() for row in group[:number]]


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
    raw = raw_rows(DATA["find"](options.source, RAW))
    texts = [m["content"] for row in raw for m in row["prompt"]] + [row["reward_model"]["ground_truth"] for row in raw]
    tokenizer = build_tokenizer(texts)

    def fits(row: Row) -> bool:
        return len(prompt_ids(tokenizer, row["prompt"])) <= MOST_PROMPT

    brief = [row for row in raw if len(tokenizer.encode(row["reward_model"]["ground_truth"])) <= MOST_CALL]
    train = list(filter(fits, brief))[:TRAINED]
    DATA["write"](options.out, "train", train)
    for name, rows in DATA["evaluation"](options.source).items():
        fitting = list(filter(fits, rows))
        print(f"{name}: {len(fitting)} of {len(rows)} prompts have at most {MOST_PROMPT} tokens")
        DATA["write"](options.out, name, first_of_each(fitting, EVALUATED))
    model = build_model(tokenizer)
    loss = warm_start(model, tokenizer, train, options.seed)
    model.save_pretrained(options.out / "model")
    tokenizer.save_pretrained(options.out / "model")
    print(f"{sum(p.numel() for p in model.parameters())} parameters, loss {loss:.3f}, {time.time() - start:.0f} s")


if __name__ == "__main__":
    main()
