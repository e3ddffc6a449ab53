"""Public data files, from a folder of local copies or downloaded, and verl's schema for what is made of them.

Shared by the recipes math_length and code (there it is a link). ``--source`` is a folder that holds the public files,
anywhere in it; or ``download``, from the Hugging Face hub; or ``sample``, the excerpt that comes with the recipe.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

DOWNLOAD, SAMPLE = "download", "sample"

Row = dict[str, Any]


class Source(NamedTuple):
    """One public data set."""

    hub: str | None
    """Its name on the hub; None: it isn't there."""
    file: str
    """Its file there; if it isn't there, where else it is."""
    copies: tuple[tuple[str, ...], ...]
    """Ends of the paths that local copies may have: alternatives, each of the files that hold the data set together."""
    licence: str


def arguments() -> argparse.ArgumentParser:
    """What every prepare script takes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True, help="folder to fill")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--source", default=DOWNLOAD, help="folder of local copies, or download, or sample")
    return parser


def load(name: str, source: Source, given: str, script: str, **reading: Any) -> list[Row]:
    """All rows of a data set, read with ``reading``; prints from where. Exits with one line if they can't be had."""
    if given == DOWNLOAD:
        paths = [_download(name, source)]
    else:
        folder = Path(script).resolve().parent / SAMPLE if given == SAMPLE else Path(given).expanduser()
        if not folder.is_dir():
            sys.exit(f"{name}: no such folder: {folder} (MRPO_DATA). Unset MRPO_DATA to download.")
        paths = _local(name, source, folder)
    rows = [row for path in paths for row in read(path, **reading)]
    print(f"{name}: {len(rows)} rows of {', '.join(map(str, paths))}; licence: {source.licence}")
    return rows


def _local(name: str, source: Source, folder: Path) -> list[Path]:
    for files in source.copies:
        found = [_ends_with(folder, file) for file in files]
        if all(found):
            return [path for path in found if path]
    asked = ", or ".join(" and ".join(files) for files in source.copies)
    where = f"or unset MRPO_DATA to download {source.hub}" if source.hub else f"it is {source.file}"
    sys.exit(f"{name}: not in {folder} (MRPO_DATA). Put {asked} there, {where}.")


def _ends_with(folder: Path, file: str) -> Path | None:
    parts = Path(file).parts
    found = [path for path in folder.rglob(parts[-1]) if path.parts[-len(parts) :] == parts]
    return min(found, key=lambda path: len(path.parts), default=None)


def _download(name: str, source: Source) -> Path:
    files = " and ".join(source.copies[0])
    if source.hub is None:
        sys.exit(f"{name}: isn't on the hub, it is {source.file}. Set MRPO_DATA to a folder that holds {files}.")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils.logging import set_verbosity_error

    set_verbosity_error()  # of every retry
    try:
        return Path(hf_hub_download(source.hub, source.file, repo_type="dataset", etag_timeout=10))
    except Exception as error:  # offline, no such file, no space: whatever it is, it is told in one line
        cause = (str(error).strip() or type(error).__name__).splitlines()[0]
        sys.exit(f"{name}: {source.hub} can't be downloaded ({cause}). Set MRPO_DATA to a folder that holds {files}.")


def read(path: Path, **reading: Any) -> list[Row]:
    """Rows of a file: parquet, by pandas with its options ``reading``; JSON lines or a JSON list."""
    if path.suffix == ".parquet":
        return [
            {str(key): value for key, value in row.items()}
            for row in pd.read_parquet(path, **reading).to_dict("records")
        ]
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()] if path.suffix == ".jsonl" else list(json.loads(text))


def verl_row(data_source: str, prompt: str, ground_truth: str, **extra: Any) -> Row:
    return {
        "data_source": data_source,
        "prompt": [{"role": "user", "content": prompt}],
        "reward_model": {"style": "rule", "ground_truth": ground_truth},
        "extra_info": extra,
    }


def write(rows: list[Row], out: Path, dropped: dict[str, int]) -> None:
    """Write ``out`` after checking every row; print how many there are, and how many were dropped for what."""
    check(rows, out.name)
    pd.DataFrame(rows).to_parquet(out)
    causes = "".join(f", {count} dropped: {cause}" for cause, count in dropped.items() if count)
    print(f"{out.name}: {len(rows)} rows{causes}")


def check(rows: Iterable[Row], name: str) -> None:
    """Every row has verl's schema, and there is one. Exits naming the first row that doesn't."""
    index = -1
    for index, row in enumerate(rows):
        if problem := _problem(row):
            sys.exit(f"{name}: row {index}: {problem}")
    if index < 0:
        sys.exit(f"{name}: no row is left.")


def _problem(row: Row) -> str:
    if not isinstance(row.get("data_source"), str) or not row["data_source"]:
        return f"data_source: given {row.get('data_source')!r}, allowed: a name."
    prompt = row.get("prompt")
    if not isinstance(prompt, list) or not prompt:
        return f"prompt: given {prompt!r}, allowed: a list of messages."
    for message in prompt:
        if not isinstance(message, dict) or not message.get("role") or not message.get("content"):
            return f"prompt: given the message {message!r}, allowed: one with role and content."
    truth = (row.get("reward_model") or {}).get("ground_truth")
    if not isinstance(truth, str) or not truth.strip():
        return f"reward_model.ground_truth: given {truth!r}, allowed: a text."
    if not isinstance((row.get("extra_info") or {}).get("index"), int):
        return f"extra_info.index: given {row.get('extra_info')!r}, allowed: a number."
    return ""
