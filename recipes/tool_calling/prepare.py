"""Make the prompts: ``python prepare.py [--tiny] [--source FOLDER] --out FOLDER --seed SEED``.

| file | prompts | from |
|---|---|---|
| ``train.parquet`` | RLLA-4K's training part | ToolRL (arXiv 2504.13958) |
| ``test.parquet`` | its test part | ToolRL |
| ``bfcl.parquet`` | BFCL v4: single-turn categories that are judged by their syntax | Gorilla |
| ``api_bank.parquet`` | API-Bank, levels 1 to 3, in RLLA's format | ToolRL |

Every ground truth is a turn in RLLA's format. Where a benchmark accepts more than one, ``extra_info.accepts`` says all
that it does (see ``rewards.py``). The order is the files'; the seed is for ``--tiny``.

``--tiny`` makes, for a CPU, a small model with a tokenizer learned from the prompts. It trains on those of ToolRL's raw
rows that call tools briefly, and evaluates on a few of every benchmark. The model has a short warm start on these very
rows, as a sloppy author would answer: the right call, a wrong one or none, with more or less of a thought, so that no
reward is the same for all rollouts of a prompt.
"""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

from mrpo.errors import ConfigError
from mrpo.prepare.bfcl import THOUGHT, bfcl_rows, turn
from mrpo.prepare.cli import Options, arguments, run
from mrpo.prepare.download import Source, load
from mrpo.prepare.rows import Row, first_of_each, make_row, write
from mrpo.rewards.library.tool_call import HIGH, tool_call
from mrpo.rewards.library.tool_format import tool_format

TOOLRL = "https://raw.githubusercontent.com/qiancheng0/ToolRL/8cee13ec0ca72f0461da372a93a6fd8140dbb840"
GORILLA = (
    "https://raw.githubusercontent.com/ShishirPatil/gorilla/main/berkeley-function-call-leaderboard/bfcl_eval/data"
)
CATEGORIES = ("simple_python", "live_simple", "multiple", "parallel", "parallel_multiple", "irrelevance")


def toolrl(file: str, folder: Path | None, columns: tuple[str, ...]) -> list[dict[str, Any]]:
    return load(file, Source(f"{TOOLRL}/{file}", (file,), "Apache-2.0 (ToolRL's repository)"), folder, columns)


def gorilla(file: str, folder: Path | None) -> list[dict[str, Any]]:
    return load(file, Source(f"{GORILLA}/{file}", (file,), "Apache-2.0"), folder)


def chat(system: str, user: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": system}, {"role": "user", "content": user}]


def rlla_row(system: str, user: str, truth: str, index: int, split: str) -> Row:
    """A row with the same columns as a benchmark's: verl concatenates them."""
    return make_row("rlla", chat(system, user), truth, index=index, split=split, accepts="")


def rlla(split: str, folder: Path | None) -> list[Row]:
    """ToolRL's parquet, without its second copy of every prompt."""
    records = toolrl(f"dataset/rlla_4k/{split}.parquet", folder, ("prompt", "reward_model"))
    rows = []
    for index, record in enumerate(records):
        system, user = (message["content"] for message in record["prompt"])
        rows.append(rlla_row(system, user, record["reward_model"]["ground_truth"], index, split))
    return rows


def raw_rlla(folder: Path | None) -> list[Row]:
    """ToolRL's rows with distilled thoughts, of which only the calls are kept, as in RLLA's RL data."""
    rows = []
    for index, record in enumerate(toolrl("dataset/rlla_4k_raw/rlla_sft.json", folder, ("instruction", "output"))):
        _, _, answer = record["output"].partition("</think>")
        if "<tool_call>" in answer and "<response>" not in answer:
            truth = f"{THOUGHT}\n{answer.strip()}"
            rows.append(rlla_row(record["instruction"], record["input"], truth, index, "train"))
    return rows


def around_tools(system: str) -> tuple[str, str]:
    """What stands before and after the list of tools in RLLA's system prompt; it is the same in all of RLLA."""
    match = re.fullmatch(r"(.*use the following tools:\n).*?(\n\n\*\*Steps for Each Turn\*\*.*)", system, re.DOTALL)
    if match is None:
        raise ConfigError(f"RLLA's system prompt isn't what it was when this recipe was made: {system[:200]!r}")
    return match[1], match[2]


def bfcl(category: str, folder: Path | None, frame: tuple[str, str]) -> list[Row]:
    file = f"BFCL_v4_{category}.json"
    answers = gorilla(f"possible_answer/{file}", folder) if category != "irrelevance" else []
    return bfcl_rows(category, gorilla(file, folder), answers, frame)


def api_bank(level: int, folder: Path | None) -> list[Row]:
    rows = []
    records = toolrl(f"benchmarks/API-Bank/level-{level}-api_processed.json", folder, ("system", "user", "answer"))
    for index, record in enumerate(records):
        truth = turn(record["answer"] if isinstance(record["answer"], list) else [record["answer"]])
        messages = chat(record["system"], record["user"].strip())
        rows.append(make_row(f"api_bank/level-{level}", messages, truth, index=index, split="test", accepts=""))
    return rows


def evaluation(folder: Path | None) -> dict[str, list[Row]]:
    """The rows to evaluate on, by the names of their files."""
    test = rlla("test", folder)
    frame = around_tools(test[0]["prompt"][0]["content"])
    return {
        "test": test,
        "bfcl": [row for category in CATEGORIES for row in bfcl(category, folder, frame)],
        "api_bank": [row for level in (1, 2, 3) for row in api_bank(level, folder)],
    }


def check_truths(rows: list[Row]) -> None:
    """Every ground truth earns the full score by its own measure, or a ConfigError names the first that doesn't."""
    for row in rows:
        where, truth = f"{row['data_source']} {row['extra_info']['index']}", row["reward_model"]["ground_truth"]
        try:
            correct, form = tool_call([], truth, truth, {}), tool_format([], truth, truth, {})
        except ValueError as error:
            raise ConfigError(f"{where}: {error}") from None
        if (correct is not None and correct < HIGH - 1e-9) or form != 1:
            raise ConfigError(f"{where}: its own ground truth scores {correct} and {form}: {truth[:200]!r}")


def tiny(raw: list[Row], files: dict[str, list[Row]], out: Path, seed: int) -> dict[str, list[Row]]:
    """Write a model for a CPU; the few rows that it goes with."""
    from mrpo.prepare import tiny_model  # imports torch, which the data alone don't need

    texts = [m["content"] for row in raw for m in row["prompt"]] + [row["reward_model"]["ground_truth"] for row in raw]
    tags = ["<think>", "</think>", "<tool_call>", "</tool_call>", "<response>", "</response>"]
    tokenizer = tiny_model.learned_tokenizer(texts, tags)

    def fits(row: Row) -> bool:
        return len(tiny_model.chat_ids(tokenizer, row["prompt"])) <= 768

    brief = [row for row in raw if len(tokenizer.encode(row["reward_model"]["ground_truth"])) <= 64]
    train, draw = list(filter(fits, brief))[:8], random.Random(seed)
    truths = [row["reward_model"]["ground_truth"] for row in train]

    def examples(step: int) -> list[tiny_model.Example]:
        """Short prompts first: the system message is most of a prompt."""
        full, written = step >= 100, []
        for row in draw.choices(train, k=4 if full else 12):
            truth = row["reward_model"]["ground_truth"] if draw.random() < 0.75 else draw.choice(truths)
            call = truth.partition("</think>\n")[2]
            thought = "<think> I should use the tool" + " hm" * draw.choice((0, 0, 4, 8, 12)) + ". </think>\n"
            answer = (thought if draw.random() < 0.8 else "") + call
            written.append(tiny_model.example(tokenizer, row["prompt"][0 if full else 1 :], answer))
        return written

    tiny_model.deterministic(seed)
    model = tiny_model.tiny_qwen2(tokenizer, layers=4, intermediate=384, positions=1024)
    rate = [min(1.0, (step + 1) / 20) * (0.4 if step >= 100 else 1.0) for step in range(125)]
    tiny_model.warm_start(model, examples, steps=124, rate=rate.__getitem__)
    tiny_model.save(model, tokenizer, out / "model")
    return {"train": train, **{name: first_of_each(filter(fits, rows), 3) for name, rows in files.items()}}


def main(options: Options) -> None:
    files = evaluation(options.source)
    if options.tiny:
        files = tiny(raw_rlla(options.source), files, options.out, options.seed)
    else:
        files = {"train": rlla("train", options.source), **files}
    for name, rows in files.items():
        check_truths(rows)
        write(rows, options.out / f"{name}.parquet")


if __name__ == "__main__":
    parser = arguments(__doc__, source=True)
    parser.add_argument("--tiny", action="store_true", help="a few rows, and a model for a CPU")
    run(main, parser)
