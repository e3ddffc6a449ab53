"""Make the prompts: ``python prepare.py [--tiny] [--source FOLDER] --out FOLDER --seed SEED``.

| file | prompts | terms |
|---|---|---|
| ``train.parquet`` | Alpaca's instructions | CC BY-NC 4.0 |
| ``alpaca.parquet`` | 512 of them, held out | CC BY-NC 4.0 |
| ``hh_rlhf.parquet`` | HH-RLHF's test dialogues, up to the last question | MIT |
| ``pku_saferlhf.parquet`` | PKU-SafeRLHF's test questions | CC BY-NC 4.0 |

They are GD²PO's own files (arXiv 2606.16771), already prompts. A source without GD²PO's file of HH-RLHF may have the
data set's own ``harmless-base`` test file instead. The order is the files'; the seed is for ``--tiny``.

``--tiny`` keeps a few short prompts of each and makes, for a CPU, the models that they go with: a policy that has
learned to write such texts, so that responses differ in length, and two reward models with random weights, whose
scores mean nothing but are served and asked for as real ones are.
"""

from __future__ import annotations

import random
import re
from itertools import islice
from pathlib import Path
from typing import Any

from mrpo.prepare.cli import Options, arguments, run
from mrpo.prepare.download import Record, Source, load
from mrpo.prepare.rows import Row, make_row, write

GD2PO = (
    "https://raw.githubusercontent.com/Qwen-Applications/GD2PO/"
    "f1ad765bc9a330e6cf387f95e9c1e5a6c4bb2d02/safe-alignment/dataset"
)
HH_RLHF = ("harmless-base_test.jsonl.gz", "harmless-base/test.jsonl.gz")
SOURCES = {
    name: Source(f"{GD2PO}/{file}", (file, *others), licence)
    for name, file, others, licence in (
        ("train", "alpaca_prompt_only/train.parquet", (), "CC BY-NC 4.0"),
        ("alpaca", "alpaca_prompt_only/test.parquet", (), "CC BY-NC 4.0"),
        ("hh_rlhf", "anthropic_hh_rlhf/test.parquet", HH_RLHF, "MIT"),
        ("pku_saferlhf", "pku-saferlhf/test.parquet", (), "CC BY-NC 4.0"),
    )
}


def rows_of(name: str, folder: Path | None) -> list[Row]:
    """The rows of one file. There is no ground truth: models judge."""
    data_source, split = ("alpaca", "train") if name == "train" else (name, "test")
    records = load(name, SOURCES[name], folder)
    return [make_row(data_source, prompt(record), None, index=i, split=split) for i, record in enumerate(records)]


def prompt(record: Record) -> list[Any]:
    """The messages of GD²PO's row, or of HH-RLHF's, up to the last question of the dialogue that was chosen."""
    if "chosen" not in record:
        return list(record["prompt"])
    parts = re.split(r"\n\n(Human|Assistant): ?", record["chosen"])[1:]
    roles = {"Human": "user", "Assistant": "assistant"}
    turns = [{"role": roles[who], "content": text} for who, text in zip(parts[::2], parts[1::2], strict=True)]
    while turns and turns[-1]["role"] != "user":  # a few answers are written as two
        turns.pop()
    return turns


def tiny(files: dict[str, list[Row]], out: Path, seed: int) -> dict[str, list[Row]]:
    """Write a policy and two reward models for a CPU; the few prompts that they go with."""
    from transformers import Qwen2ForSequenceClassification

    from mrpo.prepare import tiny_model  # imports torch, which the data alone don't need

    texts = [row["prompt"][-1]["content"] for row in files["train"][:3000]]
    tokenizer = tiny_model.learned_tokenizer(texts)
    turn: Any = tokenizer.convert_tokens_to_ids(tiny_model.START_OF_TURN)
    end = tokenizer.eos_token_id
    encoded = [ids for text in texts if len(ids := tokenizer.encode(text)) < 40]
    draw = random.Random(seed)

    def examples(step: int) -> list[tiny_model.Example]:
        """To any text, another one is the answer; the texts of both are learned."""
        pairs = [(draw.choice(encoded), draw.choice(encoded)) for _ in range(16)]
        return [tiny_model.Example([], [turn, *asked, end, turn, *answer, end]) for asked, answer in pairs]

    tiny_model.deterministic(seed)
    policy = tiny_model.tiny_qwen2(tokenizer, layers=4, intermediate=384)
    tiny_model.warm_start(policy, examples, steps=120, rate=lambda step: 1.0)
    tiny_model.save(policy, tokenizer, out / "model")
    for name in ("helpful", "harmless"):
        shape = tiny_model.tiny_config(tokenizer, layers=2, intermediate=384, num_labels=1, initializer_range=0.2)
        tiny_model.save(Qwen2ForSequenceClassification(shape), tokenizer, out / name)

    def fits(row: Row) -> bool:
        return len(tiny_model.chat_ids(tokenizer, row["prompt"])) <= 96

    return {name: list(islice(filter(fits, rows), 64 if name == "train" else 4)) for name, rows in files.items()}


def main(options: Options) -> None:
    files = {name: rows_of(name, options.source) for name in SOURCES}
    if options.tiny:
        files = tiny(files, options.out, options.seed)
    for name, rows in files.items():
        write(rows, options.out / f"{name}.parquet")


if __name__ == "__main__":
    parser = arguments(__doc__, source=True)
    parser.add_argument("--tiny", action="store_true", help="a few prompts, and models for a CPU")
    run(main, parser)
