"""Files of prompts, read row by row: parquet, JSON lines, or JSON (a list of objects)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mrpo.config.data_files import Split
from mrpo.errors import ConfigError
from mrpo.record import jsonl

Record = dict[str, Any]
HUB_SECONDS = 10.0
"""How long the hub's answer is waited for."""
SUFFIXES = (".parquet", ".jsonl", ".json")


def read_records(file: Path) -> Iterator[tuple[int, Record]]:
    """Each row with its number in the file, from 1; of JSON lines, the number of its line.

    Raises:
        ConfigError: the file isn't what its suffix says. The message doesn't name the file.
    """
    if file.suffix == ".parquet":
        yield from _parquet(file)
    elif file.suffix == ".jsonl":
        try:
            yield from jsonl.read_input(file)
        except jsonl.CorruptLineError as error:
            raise ConfigError(f"no JSON lines: {error}") from None
    elif file.suffix == ".json":
        yield from _json(file)
    else:
        raise ConfigError(f"given a {file.suffix or 'file without a suffix'}, allowed: {', '.join(SUFFIXES)}.")


def read_split(split: Split) -> Iterator[tuple[int, Record]]:
    """Each row of a split with its number, from 1. The ``datasets`` library fetches what isn't in its cache.

    Raises:
        ConfigError: there is no such data set, configuration or split, or it can't be had now.
    """
    import datasets

    datasets.disable_progress_bars()
    if not split.is_folder:
        _look_on_the_hub(split.data_set)
    folder = str(Path(split.data_set).expanduser()) if split.is_folder else split.data_set
    try:
        # A data set's own code is never run: this version of the library can't.
        rows = datasets.load_dataset(folder, split.part, split=split.split)
    except Exception as error:  # of any of the libraries below it
        said = " ".join(line.strip() for line in str(error).splitlines() if not line.startswith("Example of usage"))
        raise ConfigError(f"can't be read as DATA_SET:SPLIT or DATA_SET:CONFIGURATION:SPLIT: {said:.400}") from None
    yield from enumerate(map(dict, rows), 1)


def _look_on_the_hub(data_set: str) -> None:
    """Where the hub can't be reached, which takes the libraries minutes to say, they are told to use their cache."""
    import datasets
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import RepositoryNotFoundError

    if constants.HF_HUB_OFFLINE:
        return
    try:
        HfApi().dataset_info(data_set, timeout=HUB_SECONDS)
    except RepositoryNotFoundError:
        raise ConfigError("is no data set of the hub, or one that this user may not read.") from None
    except Exception:  # no network, no name server, a proxy that refuses
        constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True


def _parquet(file: Path) -> Iterator[tuple[int, Record]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        batches = pq.ParquetFile(file).iter_batches()
        yield from enumerate((record for batch in batches for record in batch.to_pylist()), 1)
    except (pa.ArrowException, OSError) as error:
        raise ConfigError(f"is no parquet file: {str(error).splitlines()[0]}") from None


def _json(file: Path) -> Iterator[tuple[int, Record]]:
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"is no JSON: {error}") from None
    if not isinstance(content, list) or not all(isinstance(record, dict) for record in content):
        raise ConfigError("given JSON of another form, allowed: a list of objects; one object a line is .jsonl.")
    yield from enumerate(content, 1)
