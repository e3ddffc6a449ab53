"""Make the prompts: ``python prepare_data.py [--source FOLDER] --out FOLDER --seed SEED``.

| file | prompts | from |
|---|---|---|
| ``train.parquet`` | RLLA-4K's training part | ToolRL (arXiv 2504.13958) |
| ``test.parquet`` | its test part | ToolRL |
| ``bfcl.parquet`` | BFCL v4: single-turn categories that are judged by their syntax | Gorilla |
| ``api_bank.parquet`` | API-Bank, levels 1 to 3, in RLLA's format | ToolRL |

Every ground truth is a turn in RLLA's format. Where a benchmark accepts more than one, ``extra_info.accepts`` says all
that it does (see ``rewards.py``). ``--source`` is a folder that holds the public files, anywhere in it; without it, or
with ``download``, they are downloaded. The order is the files'; the seed isn't needed.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd

from mrpo.rewards.library.tool_call import HIGH, tool_call
from mrpo.rewards.library.tool_format import tool_format

DOWNLOAD = "download"
TOOLRL = "https://raw.githubusercontent.com/qiancheng0/ToolRL/8cee13ec0ca72f0461da372a93a6fd8140dbb840/"
GORILLA = (
    "https://raw.githubusercontent.com/ShishirPatil/gorilla/main/berkeley-function-call-leaderboard/bfcl_eval/data/"
)
TRAIN, TEST = "dataset/rlla_4k/train.parquet", "dataset/rlla_4k/test.parquet"
API_BANK = "benchmarks/API-Bank/level-{}-api_processed.json"
BFCL = "BFCL_v4_{}.json"
CATEGORIES = ("simple_python", "live_simple", "multiple", "parallel", "parallel_multiple", "irrelevance")
LICENCES = {"rlla": "Apache-2.0", "api_bank": "Apache-2.0 (ToolRL's repository)", "bfcl": "Apache-2.0"}

THOUGHT = "<think> I should use the appropriate tool with proper parameters to respond to the user's need. </think>"
"""RLLA's RL data have this in the place of a thought. It is never scored."""
REFUSAL = f"{THOUGHT}\n<response> None of the tools fits. </response>"
HINT = (
    "If no tool fits or a required parameter is missing, say so in your response, without a tool call. "
    "Otherwise make all the tool calls that this needs, in this turn."
)
"""BFCL's prompts don't say that there is one turn, or that it may need no tool."""

Row = dict[str, Any]
Folder = Path | str
"""A folder that holds the public files, or DOWNLOAD."""


def find(source: Folder, name: str, base: str = TOOLRL) -> Path:
    """The file whose path ends with ``name``, below ``source`` or downloaded. Ends the program if there is none."""
    if source != DOWNLOAD:
        parts = Path(name).parts
        found = [path for path in Path(source).rglob(parts[-1]) if path.parts[-len(parts) :] == parts]
        if not found:
            sys.exit(f"{name}: not in {source} (MRPO_DATA). Put {base}{name} there, or unset MRPO_DATA to download it.")
        return min(found, key=lambda path: len(path.parts))
    folder = Path(tempfile.mkdtemp())
    try:
        with urllib.request.urlopen(base + name, timeout=60) as answer:
            (folder / Path(name).name).write_bytes(answer.read())
    except (urllib.error.URLError, TimeoutError) as error:
        reason = getattr(error, "reason", error)
        sys.exit(f"{base}{name}: can't be downloaded ({reason}). Set MRPO_DATA to a folder that holds {name}.")
    return folder / Path(name).name


def lines(file: Path) -> Iterator[dict[str, Any]]:
    with file.open(encoding="utf-8") as content:
        yield from (json.loads(line) for line in content if line.strip())


def row(source: str, system: str, user: str, truth: str, index: int, split: str, accepts: Any = None) -> Row:
    """One prompt in verl's schema, the same columns in every file: verl concatenates them."""
    return {
        "data_source": source,
        "prompt": [{"role": "system", "content": system}, {"role": "user", "content": user}],
        "reward_model": {"style": "rule", "ground_truth": truth},
        "extra_info": {"index": index, "split": split, "accepts": "" if accepts is None else json.dumps(accepts)},
    }


def turn(calls: list[dict[str, Any]]) -> str:
    """RLLA's format of a turn that calls tools."""
    body = "\n".join(json.dumps(call, ensure_ascii=False) for call in calls)
    return f"{THOUGHT}\n<tool_call>\n{body}\n</tool_call>"


def rlla(file: Path, split: str) -> list[Row]:
    """ToolRL's parquet, without its second copy of every prompt."""
    table = pd.read_parquet(file)
    if missing := {"prompt", "reward_model"} - {*table.columns}:
        sys.exit(f"{file}: has no column {', '.join(sorted(missing))}; expected RLLA-4K as ToolRL released it.")
    pairs = enumerate(zip(table["prompt"], table["reward_model"], strict=True))
    return [
        row("rlla", prompt[0]["content"], prompt[1]["content"], truth["ground_truth"], index, split)
        for index, (prompt, truth) in pairs
    ]


def around_tools(system: str) -> tuple[str, str]:
    """What stands before and after the list of tools in RLLA's system prompt; it is the same in all of RLLA."""
    match = re.fullmatch(r"(.*use the following tools:\n).*?(\n\n\*\*Steps for Each Turn\*\*.*)", system, re.DOTALL)
    if match is None:
        sys.exit(f"RLLA's system prompt isn't what it was when this recipe was made: {system[:200]!r}")
    return match[1], match[2]


def tool_list(tools: list[dict[str, Any]]) -> str:
    """Tools as RLLA lists them."""
    return "\n".join(
        f"{number}. Name: {tool['name']}\nDescription: {tool['description']}\n"
        f"Parameters: {json.dumps(tool['parameters'].get('properties', {}))}"
        for number, tool in enumerate(tools, 1)
    )


def bfcl(category: str, get: Callable[[str], Path], frame: tuple[str, str]) -> list[Row]:
    """A category of BFCL. ``frame``: what stands around the tools in the system prompt."""
    name, answers = BFCL.format(category), {}
    if category != "irrelevance":
        answers = {line["id"]: line["ground_truth"] for line in lines(get(f"possible_answer/{name}"))}
    rows = []
    for index, line in enumerate(lines(get(name))):
        said = "\n".join(m["content"].strip() for m in line["question"][0] if m["role"] == "user")
        user = f"**Dialogue Records History**\n<user> {said}\n{HINT} </user>"
        accepts = [call_accepted(call, line["function"]) for call in answers.get(line["id"], [])]
        truth = turn([an_answer(call) for call in accepts]) if accepts else REFUSAL
        system = tool_list(line["function"]).join(frame)
        rows.append(row(f"bfcl/{category}", system, user, truth, index, "test", accepts))
    return rows


def call_accepted(answer: dict[str, Any], tools: list[dict[str, Any]]) -> dict[str, Any]:
    """A possible answer with, for each parameter, whether the call must give it. BFCL marks what it may leave out by an
    accepted ""; what the tool requires may not be left out all the same. Two rows have parameters without any accepted
    value, so that nothing would be right; they are lists, and may be left out or empty here."""
    ((name, parameters),) = answer.items()
    required = next(tool["parameters"].get("required", []) for tool in tools if tool["name"] == name)
    wanted = {
        key: {"options": given or ["", []], "must": bool(given) and (key in required or "" not in given)}
        for key, given in parameters.items()
    }
    return {"name": name, "parameters": wanted}


def an_answer(accepted: dict[str, Any]) -> dict[str, Any]:
    """One of the calls that are accepted: the first option of each parameter that it must give."""
    given = {key: first(wanted["options"]) for key, wanted in accepted["parameters"].items() if wanted["must"]}
    return {"name": accepted["name"], "parameters": given}


def first(options: list[Any]) -> Any:
    """The first option, itself without options. Within an object each value is a list of options again."""
    option = next((o for o in options if o != ""), "")
    return plain(option)


def plain(option: Any) -> Any:
    if isinstance(option, dict):
        return {key: first(o) for key, o in option.items() if "" not in o}
    return [plain(item) for item in option] if isinstance(option, list) else option


def api_bank(level: int, file: Path) -> list[Row]:
    rows = []
    for index, line in enumerate(json.loads(file.read_text(encoding="utf-8"))):
        answer = line["answer"] if isinstance(line["answer"], list) else [line["answer"]]
        rows.append(row(f"api_bank/level-{level}", line["system"], line["user"].strip(), turn(answer), index, "test"))
    return rows


def check(rows: list[Row]) -> None:
    """Messages are there, and every ground truth is worth the most by its own measure. Ends the program if not."""
    for r in rows:
        where, truth = f"{r['data_source']} {r['extra_info']['index']}", r["reward_model"]["ground_truth"]
        if [m["role"] for m in r["prompt"]] != ["system", "user"] or not all(m["content"] for m in r["prompt"]):
            sys.exit(f"{where}: expected a system and a user message with content")
        try:
            correct, form = tool_call([], truth, truth, {}), tool_format([], truth, truth, {})
        except ValueError as error:
            sys.exit(f"{where}: {error}")
        if (correct is not None and correct < HIGH - 1e-9) or form != 1:
            sys.exit(f"{where}: its own ground truth scores {correct} and {form}: {truth[:200]!r}")


def write(out: Path, name: str, rows: list[Row]) -> None:
    check(rows)
    pd.DataFrame(rows).to_parquet(out / f"{name}.parquet")
    for source, number in Counter(r["data_source"] for r in rows).items():
        print(f"{name}.parquet: {number} of {source}, {LICENCES[source.partition('/')[0]]}", flush=True)


def evaluation(source: Folder) -> dict[str, list[Row]]:
    """The rows to evaluate on, by the names of their files."""
    test = rlla(find(source, TEST), "test")
    frame = around_tools(test[0]["prompt"][0]["content"])
    levels = (api_bank(level, find(source, API_BANK.format(level))) for level in (1, 2, 3))
    categories = (bfcl(category, lambda name: find(source, name, GORILLA), frame) for category in CATEGORIES)
    return {"test": test, "bfcl": [*chain(*categories)], "api_bank": [*chain(*levels)]}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--source", default=DOWNLOAD, help="folder of the public files; default: download them")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    files = {"train": rlla(find(options.source, TRAIN), "train"), **evaluation(options.source)}
    for name, rows in files.items():
        write(options.out, name, rows)


if __name__ == "__main__":
    main()
