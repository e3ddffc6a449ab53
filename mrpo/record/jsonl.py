"""Files of one JSON object a line, written so that a kill costs at most the line being written.

A line counts once its newline is there. So a torn last line is not yet a line: readers leave it out, and the next
writer cuts it off. A broken line with a newline can't come from a kill, and is an error that names file and line.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mrpo.errors import MrpoError

Record = dict[str, Any]


class CorruptLineError(MrpoError, ValueError):
    """A complete line of a file is not what it has to be. The message names file and line."""


def encode(record: Mapping[str, Any]) -> bytes:
    """One line of valid JSON, newline included. NaN and infinities, which JSON lacks, become null."""
    text = json.dumps(_plain(record), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # A lone surrogate (half a character from a broken decode) has no UTF-8 form; its \udxxx escape is valid JSON.
    return text.encode("utf-8", "backslashreplace") + b"\n"


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # arrays, tensors and their scalars, without importing either library
        return _plain(value.tolist())
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"can't write {type(value).__name__} {value!r} as JSON")


def append(path: Path, record: Mapping[str, Any]) -> None:
    """Add ``record`` as one line, after cutting off what a killed writer left half-written.

    Several processes may append to one file: by a lock, which dies with its holder, a torn line differs from one that
    another process is still writing.
    """
    line = encode(record)
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    with os.fdopen(descriptor, "rb+", buffering=0) as file:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        size = file.seek(0, os.SEEK_END)
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            os.ftruncate(descriptor, os.pread(descriptor, size, 0).rfind(b"\n") + 1)
        if file.write(line) != len(line):
            raise OSError(f"{path}: the disk took only a part of a line")


def replace(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write a whole file of records, so that a reader sees either the old file or all of the new one.

    What is there and no plain file (``/dev/stdout``, a pipe) is written to instead, as nothing may take its place.

    Raises:
        OSError: it can't be written; then nothing is left of the attempt.
    """
    content = b"".join(encode(record) for record in records)
    if path.exists() and not path.is_file():
        with open(path, "wb", buffering=0) as file:
            file.write(content)
        return
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def read(path: Path, required: Iterable[str] = ()) -> list[Record]:
    """Every complete line of ``path``; nothing if there is no such file yet.

    Raises:
        CorruptLineError: a complete line isn't a JSON object, or lacks one of the ``required`` keys.
    """
    return Tail(path, required).poll()


def lines(path: Path, required: Iterable[str] = ()) -> Iterator[Record]:
    """Every complete line of ``path``, one after the other; nothing if there is no such file yet.

    Raises:
        CorruptLineError: a complete line isn't a JSON object, or lacks one of the ``required`` keys.
    """
    if path.exists():
        with open(path, "rb") as file:
            for place, line in enumerate(file, 1):
                if line.endswith(b"\n"):
                    yield parse(line, f"{path}:{place}", required)


def as_read(record: Mapping[str, Any]) -> Record:
    """What a reader gets back of a record.

    >>> as_read({"mean": math.nan, "steps": (1, 2)})
    {'mean': None, 'steps': [1, 2]}
    """
    return parse(encode(record), "record")


def read_input(path: Path) -> Iterator[tuple[int, Record]]:
    """Line number and object of each line of a file that a user made: blank lines are skipped, and the last line may
    end without a newline.

    Raises:
        CorruptLineError: a line isn't a JSON object in UTF-8.
    """
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, parse(line.strip(), f"{path}:{number}")


class Tail:
    """Reads a growing file: each ``poll`` returns the lines that were completed since the last one."""

    def __init__(self, path: Path, required: Iterable[str] = ()):
        self.path, self.required = Path(path), tuple(required)
        self._offset = self._line = 0

    def poll(self) -> list[Record]:
        try:
            with open(self.path, "rb") as file:
                file.seek(self._offset)
                block = file.read()
        except FileNotFoundError:
            return []
        complete = block[: block.rfind(b"\n") + 1]
        self._offset += len(complete)
        return [self._parse(line) for line in complete.split(b"\n")[:-1]]

    def _parse(self, line: bytes) -> Record:
        self._line += 1
        return parse(line, f"{self.path}:{self._line}", self.required)


def parse(line: bytes, where: str, required: Iterable[str] = ()) -> Record:
    """The object of one line. Raises CorruptLineError, which says ``where``, if it is none or lacks a key."""
    try:
        record = json.loads(line.decode("utf-8"), parse_constant=lambda _: None)
    except (ValueError, RecursionError) as error:
        raise CorruptLineError(
            f"{where}: not JSON ({error}): {line[:80]!r}. Without that line the rest can be read."
        ) from error
    if not isinstance(record, dict):
        raise CorruptLineError(f"{where}: not a JSON object: {line[:80]!r}")
    if missing := [key for key in required if key not in record]:
        raise CorruptLineError(f"{where}: lacks {', '.join(missing)}: {line[:80]!r}")
    return record
