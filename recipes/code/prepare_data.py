"""Make the data: ``python prepare_data.py [--data NAME] [--tiny] --source FOLDER --out FOLDER --seed SEED``.

Writes ``train.parquet`` and ``test.parquet`` in verl's schema, with a problem's tests, as JSON, as ground truth. A
problem whose tests the ``code`` reward can't run is dropped and counted.

``--tiny`` makes, for a CPU, a small model beside them that has learned by heart what a sloppy author writes to a few of
the training prompts, and keeps those. It needs solutions: LeetCode's rows have some, and so has the sample; Eurus-2's
don't. Each of those kept has passed all its tests in the sandbox.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from mrpo.rewards.library._cases import read_cases
from mrpo.rewards.library.code import code
from mrpo.rewards.sandbox import OUTPUT

if TYPE_CHECKING:
    from pathlib import Path

    from recipes.code import sources
    from recipes.code.sources import Row, Source
else:
    import sources  # beside this script
    from sources import Source

EURUS = "PRIME-RL/Eurus-2-RL-Data"
CODE = ("apps", "codecontests", "codeforces", "taco")
"""Data sources of Eurus-2 that are coding; the others are mathematics."""
SOURCES = {
    "eurus2": Source(
        EURUS, "train.parquet", (("Eurus-2-RL-Data/train.parquet",), ("Eurus-2-RL-Data/train.jsonl",)), "MIT"
    ),
    "eurus2_test": Source(
        EURUS,
        "validation.parquet",
        (("Eurus-2-RL-Data/validation.parquet",), ("Eurus-2-RL-Data/validation.jsonl",)),
        "MIT",
    ),
    "leetcode": Source(
        None,
        "a file of the repository github.com/rllm-org/rllm",
        (("train/code/leetcode.json",),),
        "MIT; the problems are LeetCode's",
    ),
}
LEETCODE_TEST = 200
"""LeetCode's rows, drawn by the seed, that are kept to validate on."""

TINY_TRAIN, TINY_TEST, TINY_PROMPT, TINY_RESPONSE, TINY_FROM = 12, 4, 160, 60, 800
"""With ``--tiny``: problems to train on and to test on, tokens that prompt and program may have, rows looked at."""
CHATTER = ("# let me see\n", "# hmm\n", "# once more\n")
RIGHT, BREAKS, CHATTERS, STEPS = 0.5, 0.25, 0.5, 160


def eurus2(rows: Iterable[Row], split: str) -> list[Row]:
    """The coding rows. Their system prompt, which asks for actions like [ASSESS], is left out."""
    made = []
    for index, row in enumerate(rows):
        if row["data_source"] in CODE:
            user = next(message["content"] for message in row["prompt"] if message["role"] == "user")
            tests, solution = row["reward_model"]["ground_truth"], row["extra_info"].get("solution", "")
            made.append(sources.verl_row(row["data_source"], user, tests, index=index, split=split, solution=solution))
    return made


def leetcode(rows: Iterable[Row], draw: random.Random) -> dict[str, list[Row]]:
    """rLLM's rows, of which LEETCODE_TEST are kept to test on."""
    made = [
        sources.verl_row("leetcode", row["problem"], json.dumps(row["tests"]), index=index, solution=row["solutions"])
        for index, row in enumerate(rows)
    ]
    made = draw.sample(made, len(made))
    return {"train": made[LEETCODE_TEST:], "test": made[:LEETCODE_TEST]}


def runnable(rows: Iterable[Row]) -> tuple[list[Row], dict[str, int]]:
    """Rows whose tests the reward can run, and how many were dropped for what."""
    kept: list[Row] = []
    dropped = {"no tests that the reward can read": 0, "a test with too much output": 0}
    for row in rows:
        try:
            cases = read_cases(row["reward_model"]["ground_truth"])
        except ValueError:
            dropped["no tests that the reward can read"] += 1
            continue
        if max(len(json.dumps(case.expected)) for case in cases) > OUTPUT // 3:
            dropped["a test with too much output"] += 1
        else:
            kept.append(row)
    return kept, dropped


def program(text: str) -> str:
    return f"```python\n{text.rstrip()}\n```"


def tiny(parts: dict[str, list[Row]], out: Path, draw: random.Random, seed: int) -> dict[str, list[Row]]:
    """Write a model for a CPU; the few problems that it goes with."""
    if TYPE_CHECKING:
        from recipes.code import tiny_model
    else:
        import tiny_model  # imports torch, which the data alone don't need
    if not all(row["extra_info"]["solution"] for rows in parts.values() for row in rows):
        sys.exit("--tiny: needs solutions, which Eurus-2 doesn't have; allowed: --data leetcode, or --source sample.")
    looked_at = {name: draw.sample(rows, min(len(rows), TINY_FROM)) for name, rows in parts.items()}
    every = [row for rows in looked_at.values() for row in rows]
    texts = [text for row in every for text in (row["prompt"][0]["content"], program(row["extra_info"]["solution"]))]
    tokenizer = tiny_model.build_tokenizer(texts, CHATTER)
    reward = code()

    def fits(row: Row) -> bool:
        solution, tests = program(row["extra_info"]["solution"]), row["reward_model"]["ground_truth"]
        return (
            len(tiny_model.tokens(tokenizer, row["prompt"])) <= TINY_PROMPT
            and len(tokenizer.encode(solution)) <= TINY_RESPONSE
            and reward([], solution, tests, {}) == 1
        )

    few: dict[str, list[Row]] = {}
    for name, rows in looked_at.items():
        fitting = (row for row in rows if fits(row))
        few[name] = [row for _, row in zip(range(TINY_TRAIN if name == "train" else TINY_TEST), fitting, strict=False)]

    def author(draw: random.Random) -> tuple[list[dict[str, str]], str]:
        row = draw.choice(few["train"])
        right = draw.random() < RIGHT
        lines = (row if right else draw.choice(few["train"]))["extra_info"]["solution"].rstrip().splitlines()
        if not right and draw.random() < BREAKS:
            lines[-1:] = ["1 / 0"]
        chatter = "".join(draw.choices(CHATTER, k=draw.randint(60, 64))) if draw.random() < CHATTERS else ""
        return row["prompt"], program(chatter + "\n".join(lines))

    print(tiny_model.train(tokenizer, author, out / "model", STEPS, positions=512, seed=seed))
    return few


def main() -> None:
    parser = sources.arguments()
    parser.add_argument("--data", choices=["eurus2", "leetcode"], default="eurus2")
    parser.add_argument("--tiny", action="store_true", help="a few problems, and a model for a CPU")
    options = parser.parse_args()
    start, draw = time.time(), random.Random(options.seed)
    if options.data == "leetcode":
        parts = leetcode(sources.load("leetcode", SOURCES["leetcode"], options.source, __file__), draw)
    else:
        only = {"filters": [("data_source", "in", CODE)]}  # the whole file is 1.7 GB
        parts = {
            part: eurus2(sources.load(name, SOURCES[name], options.source, __file__, **only), part)
            for part, name in (("train", "eurus2"), ("test", "eurus2_test"))
        }
    dropped = {}
    for part, rows in parts.items():
        parts[part], dropped[part] = runnable(rows)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.tiny:
        parts = tiny(parts, options.out, draw, options.seed)
    for part, rows in parts.items():
        sources.write(rows, options.out / f"{part}.parquet", dropped[part])
    print(f"{time.time() - start:.0f} s")


if __name__ == "__main__":
    main()
