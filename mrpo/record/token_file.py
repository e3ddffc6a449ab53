"""A step's file of single tokens: what each token of a few rollouts says, how likely it was, and its advantage.

``tokens/<step>.jsonl.gz`` has a line a rollout, whose key is that of its line in ``rollouts/<step>.jsonl``::

    {"uid": "…", "sample": 0, "pieces": ["5", "<eos>"], "log_probs": [-0.12, -0.0031], "advantages": [0.71, 0.71],
     "in_loss": [1, 1]}

Lists are over the T tokens of the response. ``gzip`` packs what repeats: a token takes about 10 bytes.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mrpo.record import jsonl
from mrpo.record.jsonl import CorruptLineError, Record
from mrpo.record.replacing import replacing

LISTS = ("pieces", "log_probs", "advantages", "in_loss")
REQUIRED = ("uid", "sample", *LISTS)
DIGITS = 4
"""That count of a log-probability or an advantage."""


class RolloutTokens(NamedTuple):
    """The T tokens of a response."""

    pieces: Sequence[str]
    """Their texts, which together are the response's; of a character that several tokens make, the last has it."""
    log_probs: Sequence[float]
    """By the policy that the step began with."""
    advantages: Sequence[float]
    """What the update multiplied the gradients by, after token modulation; 0 outside the loss."""
    in_loss: Sequence[bool]
    """Whether the update used them: no tool's words, and none of a rollout that left the loss."""

    def record(self, uid: str, sample: int) -> dict[str, Any]:
        """The line of a rollout.

        >>> RolloutTokens(["a"], [-0.123456], [1.0], [True]).record("p", 0)
        {'uid': 'p', 'sample': 0, 'pieces': ['a'], 'log_probs': [-0.1235], 'advantages': [1.0], 'in_loss': [1]}
        """
        found = {"uid": uid, "sample": sample, "pieces": list(self.pieces)}
        found |= {name: _rounded(getattr(self, name)) for name in ("log_probs", "advantages")}
        return found | {"in_loss": [int(one) for one in self.in_loss]}


def _rounded(values: Iterable[float]) -> list[float]:
    return [float(f"{value:.{DIGITS}g}") for value in values]


def write(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write a step's file in one move."""
    with replacing(path) as partial, open(partial, "wb") as file, gzip.GzipFile("", "wb", 6, file, mtime=0) as packed:
        for record in records:
            packed.write(jsonl.encode(record))


def read(path: Path) -> Iterator[Record]:
    """Its lines, one after the other; nothing if there is no such file.

    Raises:
        CorruptLineError: it is damaged, or a line lacks a key or has lists of different lengths.
    """
    if not path.exists():
        return
    try:
        with gzip.open(path, "rb") as file:
            for place, line in enumerate(file, 1):
                record = jsonl.parse(line, f"{path}:{place}", REQUIRED)
                if len({len(record[name]) if isinstance(record[name], list) else -1 for name in LISTS}) != 1:
                    raise CorruptLineError(f"{path}:{place}: {', '.join(LISTS)} are not lists of the same length")
                yield record
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise CorruptLineError(f"{path}: damaged: {error}") from error


def stamp(path: Path) -> tuple[int, int]:
    """By which a reader knows whether a file has changed: size and time; zeros for none."""
    try:
        stat = os.stat(path)
    except FileNotFoundError:
        return 0, 0
    return stat.st_size, stat.st_mtime_ns
