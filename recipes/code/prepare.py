"""Make the data: ``python prepare.py [--data NAME] [--tiny] [--source FOLDER] --out FOLDER --seed SEED``.

Writes ``train.parquet`` and ``test.parquet`` in verl's schema, with a problem's tests, as JSON, as ground truth. A
problem whose tests the ``code`` reward can't run is dropped and counted.

``--tiny`` makes, for a CPU, a small model beside them that has learned by heart what a sloppy author writes to a few of
the training prompts, and keeps those. It needs solutions: LeetCode's rows have some, and so has the sample; Eurus-2's
don't. Each of those kept has passed all its tests in the sandbox.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from mrpo.errors import ConfigError
from mrpo.prepare.cli import Options, arguments, run
from mrpo.prepare.download import Record, Source, load
from mrpo.prepare.rows import Row, make_row, select, write
from mrpo.rewards.cases import read_cases
from mrpo.rewards.library.code import code
from mrpo.rewards.sandbox import OUTPUT

CODE = ("apps", "codecontests", "codeforces", "taco")
"""Data sources of Eurus-2 that are coding; the others are mathematics."""
EURUS = {
    part: Source(
        f"hf://datasets/PRIME-RL/Eurus-2-RL-Data/{file}.parquet",
        (f"Eurus-2-RL-Data/{file}.parquet", f"Eurus-2-RL-Data/{file}.jsonl"),
        "MIT",
    )
    for part, file in (("train", "train"), ("test", "validation"))
}
LEETCODE = Source(
    "a file of the repository github.com/rllm-org/rllm",
    ("train/code/leetcode.json",),
    "MIT; the problems are LeetCode's",
)
LEETCODE_TEST = 200
"""LeetCode's rows, drawn by the seed, that are kept to validate on."""
TINY_FROM = 800
"""With ``--tiny``: rows that are looked at."""


def eurus2(records: Iterable[Record], split: str) -> list[Row]:
    """The coding rows. Their system prompt, which asks for actions like [ASSESS], is left out."""
    made = []
    for index, record in enumerate(records):
        if record["data_source"] in CODE:
            user = next(message["content"] for message in record["prompt"] if message["role"] == "user")
            tests, solved = record["reward_model"]["ground_truth"], record["extra_info"].get("solution", "")
            made.append(make_row(record["data_source"], user, tests, index=index, split=split, solution=solved))
    return made


def leetcode(records: Iterable[Record], draw: random.Random) -> dict[str, list[Row]]:
    """rLLM's rows, of which LEETCODE_TEST are kept to test on."""
    made = [
        make_row("leetcode", record["problem"], json.dumps(record["tests"]), index=index, solution=record["solutions"])
        for index, record in enumerate(records)
    ]
    made = draw.sample(made, len(made))
    return {"train": made[LEETCODE_TEST:], "test": made[:LEETCODE_TEST]}


def problem(row: Row) -> str:
    """Why the reward can't run a row's tests."""
    try:
        cases = read_cases(row["reward_model"]["ground_truth"])
    except ValueError:
        return "no tests that the reward can read"
    too_much = max(len(json.dumps(case.expected)) for case in cases) > OUTPUT // 3
    return "a test with too much output" if too_much else ""


def program(text: str) -> str:
    return f"```python\n{text.rstrip()}\n```"


def solution(row: Row) -> str:
    return program(row["extra_info"]["solution"])


def tiny(parts: dict[str, list[Row]], out: Path, draw: random.Random, seed: int) -> dict[str, list[Row]]:
    """Write a model for a CPU; the few problems that it goes with."""
    from mrpo.prepare import tiny_model  # imports torch, which the data alone don't need

    if not all(row["extra_info"]["solution"] for rows in parts.values() for row in rows):
        raise ConfigError("--tiny: given problems without solutions. Allowed: --data leetcode, or --source sample.")
    chatter = ("# let me see\n", "# hmm\n", "# once more\n")
    seen = {name: draw.sample(rows, min(len(rows), TINY_FROM)) for name, rows in parts.items()}
    texts = [t for rows in seen.values() for row in rows for t in (row["prompt"][0]["content"], solution(row))]
    tokenizer = tiny_model.learned_tokenizer(texts, chatter)
    reward = code()

    def fits(row: Row) -> bool:
        prompt, response = tiny_model.chat_ids(tokenizer, row["prompt"]), tokenizer.encode(solution(row))
        short = len(prompt) <= 160 and len(response) <= 60
        return short and reward([], solution(row), row["reward_model"]["ground_truth"], {}) == 1

    few = {name: list(islice(filter(fits, rows), 12 if name == "train" else 4)) for name, rows in seen.items()}

    def written(draw: random.Random) -> tiny_model.Example:
        """Half of the programs are right, a quarter of the others break, and half come after chatter."""
        row = draw.choice(few["train"])
        right = draw.random() < 0.5
        lines = (row if right else draw.choice(few["train"]))["extra_info"]["solution"].rstrip().splitlines()
        if not right and draw.random() < 0.25:
            lines[-1:] = ["1 / 0"]
        before = "".join(draw.choices(chatter, k=draw.randint(60, 64))) if draw.random() < 0.5 else ""
        return tiny_model.example(tokenizer, row["prompt"], program(before + "\n".join(lines)))

    tiny_model.learn_by_heart(tokenizer, written, out / "model", seed, positions=512)
    return few


def main(options: Options) -> None:
    draw = random.Random(options.seed)
    if options.data == "leetcode":
        parts = leetcode(load("leetcode", LEETCODE, options.source), draw)
    else:
        only = [("data_source", "in", CODE)]  # the whole file is 1.7 GB
        parts = {
            part: eurus2(load(f"eurus2 {part}", source, options.source, filters=only), part)
            for part, source in EURUS.items()
        }
    selected = {part: select(rows, problem) for part, rows in parts.items()}
    parts = {part: rows for part, (rows, _) in selected.items()}
    if options.tiny:
        parts = tiny(parts, options.out, draw, options.seed)
    for part, rows in parts.items():
        write(rows, options.out / f"{part}.parquet", dropped=selected[part][1])


if __name__ == "__main__":
    parser = arguments(__doc__, source=True, sample=Path(__file__).with_name("sample"))
    parser.add_argument("--data", choices=["eurus2", "leetcode"], default="eurus2")
    parser.add_argument("--tiny", action="store_true", help="a few problems, and a model for a CPU")
    run(main, parser)
