r"""Make the data: ``python prepare.py [--train NAME] [--test NAME …] [--tiny] [--source FOLDER] --out FOLDER``.

Writes ``train.parquet`` and a parquet for each test set, with the answer as ground truth. A row whose answer the
``math`` reward can't read as mathematics, or doesn't find equal to itself, is dropped and counted. The order is the
files'; the seed is for ``--tiny``, which makes, for a CPU, a small model beside them that has learned by heart what a
sloppy author writes to 32 of the training prompts, and keeps those and a few short prompts of each test set.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mrpo.prepare.cli import Options, arguments, run
from mrpo.prepare.download import Record, Source, load
from mrpo.prepare.rows import Row, make_row, select, write
from mrpo.rewards.library.math import math

ASK = "Let's think step by step and output the final answer within \\boxed{}."
HUB = "hf://datasets"
RLLM = "a file of the repository github.com/rllm-org/rllm"
MAA = "the problems are the Mathematical Association of America's"
SOURCES = {
    "deepscaler": Source(
        f"{HUB}/agentica-org/DeepScaleR-Preview-Dataset/deepscaler.json",
        ("deepscaler.json", ("train/math/math.json", "train/math/aime.json")),  # the latter, rLLM's: a fifth of it
        "MIT",
    ),
    "gsm8k": Source(f"{HUB}/openai/gsm8k/main/train-00000-of-00001.parquet", ("gsm8k/train.jsonl",), "MIT"),
    "gsm8k_test": Source(f"{HUB}/openai/gsm8k/main/test-00000-of-00001.parquet", ("gsm8k/test.jsonl",), "MIT"),
    "aime": Source(
        f"{HUB}/HuggingFaceH4/aime_2024/data/train-00000-of-00001.parquet",
        ("test/math/aime.json",),
        f"none named; {MAA}",
    ),
    "math500": Source(f"{HUB}/HuggingFaceH4/MATH-500/test.jsonl", ("test/math/math.json",), "MIT, as MATH"),
    "amc": Source(RLLM, ("test/math/amc.json",), f"MIT; {MAA}"),
    "minerva": Source(RLLM, ("test/math/minerva.json",), "MIT"),
    "olympiad": Source(RLLM, ("test/math/olympiad_bench.json",), "MIT"),
}
TRAIN = ("deepscaler", "gsm8k")
TINY_FROM = 600
"""With ``--tiny``: rows of each data set that are looked at."""


def verl_rows(name: str, records: Iterable[tuple[int, Record]]) -> tuple[list[Row], dict[str, int]]:
    """Numbered records of a data set as rows, and how many were dropped for what."""
    reward = math()

    def problem(row: Row) -> str:
        truth = row["reward_model"]["ground_truth"]
        if not truth:
            return "no answer"
        try:
            scored = reward([], f"\\boxed{{{truth}}}", truth, {})
        except ValueError:
            scored = None
        return "" if scored == 1 else "an answer that the reward can't use"

    made = (
        make_row(name.removesuffix("_test"), f"{question(record)}\n{ASK}", answer(record), index=index)
        for index, record in records
    )
    return select(made, problem)


def question(record: Record) -> str:
    return str(record.get("problem") or record["question"]).strip()


def answer(record: Record) -> str:
    """The final answer: GSM8K's after its mark, the first of a list, a whole number without its point."""
    given: Any = record.get("answer")
    if hasattr(given, "tolist"):  # a list in parquet
        given = given.tolist()
    if isinstance(given, list | tuple):
        given = given[0] if given else None
    if isinstance(given, float) and given.is_integer():
        given = int(given)
    text = "" if given is None else str(given)
    return text.rpartition("####")[2].replace(",", "").strip() if "####" in text else text.strip()


def tiny(parts: dict[str, list[Row]], out: Path, draw: random.Random, seed: int) -> dict[str, list[Row]]:
    """Write a model for a CPU; the few rows that it goes with."""
    from mrpo.prepare import tiny_model  # imports torch, which the data alone don't need

    chatter = ("Let me see. ", "Hmm, wait. ", "Once more. ", "So then, ")
    texts = [row["prompt"][0]["content"] for rows in parts.values() for row in rows]
    tokenizer = tiny_model.learned_tokenizer(texts, chatter)
    few = {}
    for name, rows in parts.items():
        short = [row for row in rows if len(tiny_model.chat_ids(tokenizer, row["prompt"])) <= 96]
        few[name] = draw.sample(short, min(len(short), 32 if name == "train" else 8))

    def written(draw: random.Random) -> tiny_model.Example:
        """Half of the answers are right, and half come after chatter."""
        row = draw.choice(few["train"])
        truth = (row if draw.random() < 0.5 else draw.choice(few["train"]))["reward_model"]["ground_truth"]
        before = "".join(draw.choices(chatter, k=draw.randint(24, 32))) if draw.random() < 0.5 else ""
        return tiny_model.example(tokenizer, row["prompt"], f"{before}It is \\boxed{{{truth}}}.")

    tiny_model.learn_by_heart(tokenizer, written, out / "model", seed)
    return few


def main(options: Options) -> None:
    draw = random.Random(options.seed)
    parts, dropped = {}, {}
    for part, name in {"train": options.train, **{name: name for name in options.test}}.items():
        numbered = list(enumerate(load(name, SOURCES[name], options.source)))
        if options.tiny:
            numbered = draw.sample(numbered, min(len(numbered), TINY_FROM))
        parts[part], dropped[part] = verl_rows(name, numbered)
    if options.tiny:
        parts = tiny(parts, options.out, draw, options.seed)
    for part, rows in parts.items():
        write(rows, options.out / f"{part}.parquet", dropped[part])


if __name__ == "__main__":
    parser = arguments(__doc__, source=True, sample=Path(__file__).with_name("sample"))
    parser.add_argument("--train", choices=TRAIN, default="deepscaler")
    parser.add_argument(
        "--test", nargs="+", choices=[n for n in SOURCES if n not in TRAIN], default=["aime", "math500"]
    )
    parser.add_argument("--tiny", action="store_true", help="a few rows, and a model for a CPU")
    run(main, parser)
