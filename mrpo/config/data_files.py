"""What ``data.train_files`` and ``data.val_files`` may name: a file, or a split of a Hugging Face data set."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_SPLIT = re.compile(r"(?P<data_set>[^:]+):((?P<part>[^:\[\]]+):)?(?P<split>\w+(\[[^\[\]]*\])?)")
_ON_THE_HUB = re.compile(r"\w[\w.-]*/\w[\w.-]*")


class Split(NamedTuple):
    """A split of a data set, as ``datasets.load_dataset`` takes it."""

    data_set: str
    """OWNER/NAME on the hub, or the folder of a data set's repository."""
    part: str | None
    """Which of the data set's configurations, where it has several."""
    split: str
    """``train``, or ``train[:100]``."""

    @property
    def is_folder(self) -> bool:
        return Path(self.data_set).expanduser().is_dir()


def split_of(given: str) -> Split | None:
    """What ``given`` names, if that is a split; None: it is a file's path.

    >>> split_of("openai/gsm8k:main:train")
    Split(data_set='openai/gsm8k', part='main', split='train')
    >>> split_of("data/train.parquet")
    """
    found = _SPLIT.fullmatch(given)
    if found is None or Path(given).expanduser().exists():
        return None
    split = Split(found["data_set"], found["part"], found["split"])
    return split if split.is_folder or is_hub_name(split.data_set) else None


def is_hub_name(given: str) -> bool:
    return bool(_ON_THE_HUB.fullmatch(given))


def is_there(given: str) -> bool:
    """Whether it can be read as far as can be told without reading it: a split of the hub may have to be fetched."""
    return split_of(given) is not None or Path(given).expanduser().exists()


def files_of(given: str) -> Iterator[Path]:
    """The files on this machine that decide its rows; for a data set of the hub, the one that names its revision."""
    split = split_of(given)
    if split is None:
        yield Path(given).expanduser()
    elif split.is_folder:
        yield from sorted(path for path in Path(split.data_set).expanduser().rglob("*") if path.is_file())
    else:
        from huggingface_hub.constants import HF_HUB_CACHE

        revision = Path(HF_HUB_CACHE) / f"datasets--{split.data_set.replace('/', '--')}" / "refs" / "main"
        yield from [revision] if revision.is_file() else []
