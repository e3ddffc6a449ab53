"""Make the prompts: ``python prepare_data.py [--source FOLDER] --out FOLDER --seed SEED``.

| file | prompts | terms |
|---|---|---|
| ``train.parquet`` | Alpaca's instructions | CC BY-NC 4.0 |
| ``alpaca.parquet`` | 512 of them, held out | CC BY-NC 4.0 |
| ``hh_rlhf.parquet`` | HH-RLHF's test dialogues, up to the last question | MIT |
| ``pku_saferlhf.parquet`` | PKU-SafeRLHF's test questions | CC BY-NC 4.0 |

They are GD²PO's own files (arXiv 2606.16771), already prompts. A source without GD²PO's file of HH-RLHF may have the
data set's own ``harmless-base`` test file instead. ``--source`` is a folder that holds the files, anywhere in it;
without it, or with ``download``, they are downloaded. The order is the files'; the seed isn't needed.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import sys
import tempfile
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

DOWNLOAD = "download"
GD2PO = (
    "https://raw.githubusercontent.com/Qwen-Applications/GD2PO/"
    "f1ad765bc9a330e6cf387f95e9c1e5a6c4bb2d02/safe-alignment/dataset/"
)
FILES = {
    "train": "alpaca_prompt_only/train.parquet",
    "alpaca": "alpaca_prompt_only/test.parquet",
    "hh_rlhf": "anthropic_hh_rlhf/test.parquet",
    "pku_saferlhf": "pku-saferlhf/test.parquet",
}
HH_RAW = ("harmless-base_test.jsonl.gz", "harmless-base/test.jsonl.gz")
SOURCES = {"train": "alpaca", "alpaca": "alpaca", "hh_rlhf": "hh_rlhf", "pku_saferlhf": "pku_saferlhf"}
"""``data_source`` of each file's rows: the name in the metrics."""
LICENCES = {"alpaca": "CC BY-NC 4.0", "hh_rlhf": "MIT", "pku_saferlhf": "CC BY-NC 4.0"}

Row = dict[str, Any]
Folder = Path | str
"""A folder that holds the public files, or DOWNLOAD."""


def below(source: Path, name: str) -> Path | None:
    """The file in ``source`` whose path ends with ``name``."""
    parts = Path(name).parts
    found = [path for path in source.rglob(parts[-1]) if path.parts[-len(parts) :] == parts]
    return min(found, key=lambda path: len(path.parts), default=None)


def find(source: Folder, *names: str) -> Path:
    """The first of ``names`` that is in ``source``, or GD²PO's file. Ends the program if there is none."""
    if source != DOWNLOAD:
        for name in names:
            if (file := below(Path(source), name)) is not None:
                return file
        wanted = " or ".join(names)
        sys.exit(
            f"{wanted}: not in {source} (MRPO_DATA). Put it there, or unset MRPO_DATA to download {GD2PO + names[0]}"
        )
    name = names[0]
    folder = Path(tempfile.mkdtemp())
    try:
        with urllib.request.urlopen(GD2PO + name, timeout=60) as answer:
            (folder / Path(name).name).write_bytes(answer.read())
    except (urllib.error.URLError, TimeoutError) as error:
        reason = getattr(error, "reason", error)
        sys.exit(f"{GD2PO}{name}: can't be downloaded ({reason}). Set MRPO_DATA to a folder that holds {name}.")
    return folder / Path(name).name


def row(source: str, messages: list[dict[str, str]], index: int, split: str) -> Row:
    """One prompt in verl's schema, the same columns in every file. There is no ground truth: models judge."""
    return {
        "data_source": source,
        "prompt": [{"role": m["role"], "content": m["content"]} for m in messages],
        "reward_model": {"style": "model", "ground_truth": ""},
        "extra_info": {"index": index, "split": split},
    }


def dialogue(text: str) -> list[dict[str, str]]:
    """HH-RLHF's way to write a dialogue, up to its last question, as messages."""
    parts = re.split(r"\n\n(Human|Assistant): ?", text)[1:]
    roles = {"Human": "user", "Assistant": "assistant"}
    said = [{"role": roles[who], "content": text} for who, text in zip(parts[::2], parts[1::2], strict=True)]
    while said and said[-1]["role"] != "user":  # a few answers are written as two
        said.pop()
    return said


def read(file: Path) -> list[list[dict[str, str]]]:
    """The prompts in ``file``, GD²PO's or HH-RLHF's own."""
    if file.suffix == ".parquet":
        table = pd.read_parquet(file)
        if "prompt" not in table.columns:
            sys.exit(f"{file}: has no column prompt; expected the file as GD²PO released it.")
        return [list(prompt) for prompt in table["prompt"]]
    with gzip.open(file, "rt", encoding="utf-8") as content:
        return [dialogue(json.loads(line)["chosen"]) for line in content]


def check(rows: list[Row]) -> None:
    """Every prompt ends with a question, and says something. Ends the program if not."""
    for r in rows:
        last, where = r["prompt"][-1:], f"{r['data_source']} {r['extra_info']['index']}"
        if not last or last[0]["role"] != "user" or not last[0]["content"].strip():
            sys.exit(f"{where}: expected a prompt that ends with a user's message, got {r['prompt']}")
        if unknown := {m["role"] for m in r["prompt"]} - {"system", "user", "assistant"}:
            sys.exit(f"{where}: unknown role {', '.join(sorted(unknown))}")


def rows_of(name: str, source: Folder) -> list[Row]:
    """The rows of the file called ``name``."""
    names = (FILES[name], *(HH_RAW if name == "hh_rlhf" else ()))
    split = "train" if name == "train" else "test"
    rows = [row(SOURCES[name], messages, i, split) for i, messages in enumerate(read(find(source, *names)))]
    check(rows)
    return rows


def write(out: Path, name: str, rows: list[Row]) -> None:
    pd.DataFrame(rows).to_parquet(out / f"{name}.parquet")
    for source, number in Counter(r["data_source"] for r in rows).items():
        print(f"{name}.parquet: {number} of {source}, {LICENCES[source]}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--source", default=DOWNLOAD, help="folder of the public files; default: download them")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        write(options.out, name, rows_of(name, options.source))


if __name__ == "__main__":
    main()
