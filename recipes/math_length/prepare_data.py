r"""Make the data: ``python prepare_data.py [--train NAME] [--test NAME …] [--tiny] --source FOLDER --out FOLDER``.

Writes ``train.parquet`` and a parquet for each test set, in verl's schema, with the answer as ground truth. A row whose
answer the ``math`` reward can't read as mathematics, or doesn't find equal to itself, is dropped and counted. The order
is the files'; the seed is for ``--tiny``.

``--tiny`` makes, for a CPU, a small model beside them that has learned by heart what a sloppy author writes to 32 of
the training prompts, and keeps those and a few short prompts of each test set.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from mrpo.rewards.library.math import math

if TYPE_CHECKING:
    from pathlib import Path

    from recipes.math_length import sources
    from recipes.math_length.sources import Row, Source
else:
    import sources  # beside this script
    from sources import Source

ASK = "Let's think step by step and output the final answer within \\boxed{}."
RLLM = "a file of the repository github.com/rllm-org/rllm"
MAA = "the problems are the Mathematical Association of America's"
SOURCES = {
    "deepscaler": Source(
        "agentica-org/DeepScaleR-Preview-Dataset",
        "deepscaler.json",
        (("deepscaler.json",), ("train/math/math.json", "train/math/aime.json")),  # rLLM's: a fifth of the whole
        "MIT",
    ),
    "gsm8k": Source("openai/gsm8k", "main/train-00000-of-00001.parquet", (("gsm8k/train.jsonl",),), "MIT"),
    "gsm8k_test": Source("openai/gsm8k", "main/test-00000-of-00001.parquet", (("gsm8k/test.jsonl",),), "MIT"),
    "aime": Source(
        "HuggingFaceH4/aime_2024",
        "data/train-00000-of-00001.parquet",
        (("test/math/aime.json",),),
        f"none named; {MAA}",
    ),
    "math500": Source("HuggingFaceH4/MATH-500", "test.jsonl", (("test/math/math.json",),), "MIT, as MATH"),
    "amc": Source(None, RLLM, (("test/math/amc.json",),), f"MIT; {MAA}"),
    "minerva": Source(None, RLLM, (("test/math/minerva.json",),), "MIT"),
    "olympiad": Source(None, RLLM, (("test/math/olympiad_bench.json",),), "MIT"),
}
TRAIN = ("deepscaler", "gsm8k")

TINY_FROM, TINY_TRAIN, TINY_TEST, TINY_PROMPT = 600, 32, 8, 96
"""With ``--tiny``: rows looked at, prompts to train on, prompts of each test set, and tokens that one may have."""
CHATTER = ("Let me see. ", "Hmm, wait. ", "Once more. ", "So then, ")
RIGHT, CHATTERS, STEPS = 0.5, 0.5, 160


def verl_rows(name: str, rows: Iterable[tuple[int, Row]]) -> tuple[list[Row], dict[str, int]]:
    """Numbered rows of a data set in verl's schema, and how many were dropped for what."""
    reward, source = math(), name.removesuffix("_test")
    kept: list[Row] = []
    dropped = {"no answer": 0, "an answer that the reward can't use": 0}
    for index, row in rows:
        truth = answer(row)
        if not truth:
            dropped["no answer"] += 1
        elif not equals_itself(reward, truth):
            dropped["an answer that the reward can't use"] += 1
        else:
            question = str(row.get("problem") or row["question"]).strip()
            kept.append(sources.verl_row(source, f"{question}\n{ASK}", truth, index=index))
    return kept, dropped


def answer(row: Row) -> str:
    """The final answer: GSM8K's after its mark, the first of a list, a whole number without its point."""
    given = row.get("answer")
    if given is None:
        return ""
    if isinstance(given, Sequence) and not isinstance(given, str):
        given = given[0] if given else ""
    if isinstance(given, float) and given.is_integer():
        given = int(given)
    text = str(given)
    if "####" in text:
        text = text.rpartition("####")[2].replace(",", "")
    return text.strip()


def equals_itself(reward: math, truth: str) -> bool:
    try:
        return reward([], f"\\boxed{{{truth}}}", truth, {}) == 1
    except ValueError:
        return False


def tiny(parts: dict[str, list[Row]], out: Path, draw: random.Random, seed: int) -> dict[str, list[Row]]:
    """Write a model for a CPU; the few rows that it goes with."""
    if TYPE_CHECKING:
        from recipes.math_length import tiny_model
    else:
        import tiny_model  # imports torch, which the data alone don't need
    texts = [row["prompt"][0]["content"] for rows in parts.values() for row in rows]
    tokenizer = tiny_model.build_tokenizer(texts, CHATTER)
    few = {}
    for name, rows in parts.items():
        short = [row for row in rows if len(tiny_model.tokens(tokenizer, row["prompt"])) <= TINY_PROMPT]
        few[name] = draw.sample(short, min(len(short), TINY_TRAIN if name == "train" else TINY_TEST))

    def author(draw: random.Random) -> tuple[list[dict[str, str]], str]:
        row = draw.choice(few["train"])
        truth = (row if draw.random() < RIGHT else draw.choice(few["train"]))["reward_model"]["ground_truth"]
        chatter = "".join(draw.choices(CHATTER, k=draw.randint(24, 32))) if draw.random() < CHATTERS else ""
        return row["prompt"], f"{chatter}It is \\boxed{{{truth}}}."

    print(tiny_model.train(tokenizer, author, out / "model", STEPS, positions=256, seed=seed))
    return few


def main() -> None:
    parser = sources.arguments()
    parser.add_argument("--train", choices=TRAIN, default="deepscaler")
    parser.add_argument(
        "--test", nargs="+", choices=[n for n in SOURCES if n not in TRAIN], default=["aime", "math500"]
    )
    parser.add_argument("--tiny", action="store_true", help="a few rows, and a model for a CPU")
    options = parser.parse_args()
    start, draw = time.time(), random.Random(options.seed)
    parts, dropped = {}, {}
    for part, name in {"train": options.train, **{name: name for name in options.test}}.items():
        numbered = list(enumerate(sources.load(name, SOURCES[name], options.source, __file__)))
        if options.tiny:
            numbered = draw.sample(numbered, min(len(numbered), TINY_FROM))
        parts[part], dropped[part] = verl_rows(name, numbered)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.tiny:
        parts = tiny(parts, options.out, draw, options.seed)
    for part, rows in parts.items():
        sources.write(rows, options.out / f"{part}.parquet", dropped[part])
    print(f"{time.time() - start:.0f} s")


if __name__ == "__main__":
    main()
