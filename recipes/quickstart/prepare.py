"""Make the quickstart's model and data: ``python prepare.py [--mixed] --out FOLDER --seed SEED``.

The questions are steps in the alphabet: "c+2" is "e". A Qwen2 of a million parameters with a tokenizer of its own
learns from answers by a sloppy author: they sometimes count the letters out (and are mostly right then), sometimes
chatter, sometimes forget the tags. So at the start a known share of the rollouts earns each reward, and there is
something to learn for all three. With ``--mixed`` every question has an author of its own: some give a good answer
nearly always, some hardly ever. Everything follows from the seed.
"""

from __future__ import annotations

import random
from typing import NamedTuple

from mrpo.prepare.cli import Options, arguments, run
from mrpo.prepare.rows import make_row, write
from mrpo.prepare.tiny_model import Example, byte_tokenizer, deterministic, example, save, tiny_qwen2, warm_start

LETTERS = "abcdefghijklmnopqrstuvwxyz"
QUESTIONS = [(start, steps) for steps in (1, 2, 3) for start in range(len(LETTERS) - steps)]
"""Every letter, and every number of steps that stays in the alphabet."""
TAGS = ("<answer>", "</answer>")
CHATTER = ("let me see, ", "well, ", "that must be ", "hmm, ")
CLEAN_STEPS, SLOPPY_STEPS, MIXED_SLOPPY_STEPS, BATCH = 220, 100, 500, 32
MIXED_RATES = (0.01, 0.02, 0.05, 0.3, 0.7, 0.95, 0.98, 0.99)


class Author(NamedTuple):
    """How often an author, on a sloppy day, is right, chatters, and uses tags."""

    right_if_counted: float = 0.85
    right_otherwise: float = 0.5
    chatters: float = 0.65
    tags_it: float = 0.4

    def answer(self, start: int, steps: int, draw: random.Random, sloppy: bool) -> str:
        """What they write to the letter number ``start`` plus ``steps``, on a good day or on a sloppy one."""
        counts_out = draw.random() < 0.4
        right = not sloppy or draw.random() < (self.right_if_counted if counts_out else self.right_otherwise)
        end = start + steps if right else draw.choice([n for n in range(len(LETTERS)) if n != start + steps])
        chatters = sloppy and draw.random() < self.chatters
        chatter = "".join(draw.choices(CHATTER, k=draw.randint(8, 14))) if chatters else ""
        counted = " ".join([*LETTERS[start : start + steps], LETTERS[end]]) + " so " if counts_out else ""
        tagged = draw.random() < self.tags_it
        return chatter + counted + (f"<answer>{LETTERS[end]}</answer>" if tagged else LETTERS[end])


def mixed_author(draw: random.Random) -> Author:
    rate = draw.choice(MIXED_RATES)
    return Author(right_if_counted=rate, right_otherwise=rate, chatters=1 - rate, tags_it=rate)


def main(options: Options) -> None:
    deterministic(options.seed)
    draw = random.Random(options.seed)
    tokenizer = byte_tokenizer([*TAGS, *CHATTER])
    model = tiny_qwen2(tokenizer, layers=5, intermediate=384)
    authors = {question: mixed_author(draw) if options.mixed else Author() for question in QUESTIONS}

    def examples(step: int) -> list[Example]:
        """Fresh answers: first from good days, which teach the alphabet, then from sloppy ones."""
        written = []
        for _ in range(BATCH):
            question = start, steps = draw.choice(QUESTIONS)
            answer = authors[question].answer(start, steps, draw, sloppy=step >= CLEAN_STEPS)
            written.append(example(tokenizer, [{"role": "user", "content": ask(start, steps)}], answer))
        return written

    warm_start(model, examples, CLEAN_STEPS + (MIXED_SLOPPY_STEPS if options.mixed else SLOPPY_STEPS))
    save(model, tokenizer, options.out / "model")
    rows = [
        make_row("quickstart", ask(start, steps), LETTERS[start + steps], index=index)
        for index, (start, steps) in enumerate(draw.sample(QUESTIONS, len(QUESTIONS)))
    ]
    write(rows, options.out / "train.parquet")  # all questions to train on,
    write(rows[::3], options.out / "test.parquet")  # a third of them again to validate on


def ask(start: int, steps: int) -> str:
    return f"{LETTERS[start]}+{steps}"


if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument("--mixed", action="store_true", help="questions of very different difficulty")
    run(main, parser)
