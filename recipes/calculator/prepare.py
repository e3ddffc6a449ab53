"""Make the calculator's model and data: ``python prepare.py --out FOLDER --seed SEED``.

The questions are products, sums and differences of two numbers of two digits: "47*83". A Qwen2 of a million parameters
learns from a sloppy author how a call of the calculator looks and that its result is the answer: on sloppy days they
guess instead of calling, call twice, write a call that can't be worked out, or forget the tags. It can't multiply: only
a call makes it right. Everything follows from the seed.
"""

from __future__ import annotations

import operator
import random
from typing import Any, NamedTuple

from mrpo.prepare.cli import Options, arguments, run
from mrpo.prepare.rows import make_row, write
from mrpo.prepare.tiny_model import Example, byte_tokenizer, deterministic, save, tiny_qwen2, warm_start

OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul}
CALL = '<tool_call>{"name": "calculator", "arguments": {"expression": "', '"}}</tool_call>'
ANSWER = "<answer>", "</answer>"
TEMPLATE = (
    "{% if tools %}<|im_start|>{% for t in tools %}{{ t['function']['name'] }} {% endfor %}<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>{% endif %}"
)
"""A turn is opened, said and closed; tools are told by their names alone, to keep prompts short."""
TOOLS: list[Any] = [{"type": "function", "function": {"name": "calculator"}}]
CLEAN_STEPS, SLOPPY_STEPS, BATCH = 340, 70, 32
TRAINING, VALIDATION = 2000, 64


class Question(NamedTuple):
    """Two numbers and what is between them."""

    left: int
    sign: str
    right: int

    def __str__(self) -> str:
        return f"{self.left}{self.sign}{self.right}"

    @property
    def result(self) -> int:
        return int(OPERATIONS[self.sign](self.left, self.right))


def draw_question(draw: random.Random) -> Question:
    return Question(draw.randint(10, 99), draw.choice("+-**"), draw.randint(10, 99))


def conversation(question: Question, draw: random.Random, sloppy: bool) -> list[tuple[str, str]]:
    """Each turn that the author writes, and what the calculator says to it; nothing to the last."""
    turns = []
    called = not sloppy or draw.random() < 0.75
    if called:
        expression = str(question) if not sloppy or draw.random() < 0.85 else f"{question}="
        result = str(question.result) if expression == str(question) else "Error: SyntaxError: invalid syntax"
        turns += [(expression.join(CALL), result)] * (2 if sloppy and draw.random() < 0.4 else 1)
    number = question.result if called and "Error" not in turns[-1][1] else draw.randint(10, 999)
    tagged = not sloppy or draw.random() < 0.5
    return [*turns, (str(number).join(ANSWER) if tagged else str(number), "")]


def main(options: Options) -> None:
    deterministic(options.seed)
    draw = random.Random(options.seed)
    tokenizer = byte_tokenizer([*CALL, *ANSWER, "calculator "])
    tokenizer.chat_template = TEMPLATE
    model = tiny_qwen2(tokenizer, layers=4, intermediate=384)

    def tokens(text: str) -> list[int]:
        return list(tokenizer.encode(text))

    def examples(step: int) -> list[Example]:
        """A turn of each conversation, with what was before it: first of good days, then of sloppy ones."""
        written = []
        for _ in range(BATCH):
            question = draw_question(draw)
            chat = [{"role": "user", "content": str(question)}]
            begun = tokenizer.apply_chat_template(chat, tools=TOOLS, add_generation_prompt=True, tokenize=False)
            turns = conversation(question, draw, sloppy=step >= CLEAN_STEPS)
            learned = draw.randrange(len(turns))
            before = [f"{said}<|im_end|>\n<|im_start|>{result}<|im_end|>\n<|im_start|>" for said, result in turns]
            prompt = "".join([str(begun), *before[:learned]])
            written.append(Example(tokens(prompt), tokens(f"{turns[learned][0]}<|im_end|>")))
        return written

    warm_start(model, examples, CLEAN_STEPS + SLOPPY_STEPS)
    save(model, tokenizer, options.out / "model")
    questions = [draw_question(draw) for _ in range(TRAINING + VALIDATION)]
    rows = [make_row("calculator", str(one), str(one.result), index=index) for index, one in enumerate(questions)]
    write(rows[:TRAINING], options.out / "train.parquet")
    write(rows[TRAINING:], options.out / "test.parquet")


if __name__ == "__main__":
    run(main, arguments(__doc__))
