"""The files below a folder: their sizes and checksums, and in what they differ from those noted down.

Checksums are SHA-256: of hashlib's the quickest on processors with instructions for it, about 1 GB/s a core.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

from pydantic import Field

from mrpo.config.base import StrictModel

THREADS = min(8, os.cpu_count() or 1)


class FileRecord(StrictModel):
    """One file: its size in bytes and the SHA-256 of its content, in hex."""

    size: int = Field(ge=0)
    checksum: str


NOT_KNOWN = {
    *(errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENOTCONN, errno.EREMOTEIO),
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN),
}
"""Errors that tell of the disk, the network or this process, not of a file: going on without it would be wrong."""


def read_plain(path: Path, most: int) -> bytes:
    """The content of a plain file of at most so many bytes.

    Raises:
        OSError: it can't be read, or is a link, a pipe, a device or a folder, or larger.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)  # a pipe would wait for a writer
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "no plain file", str(path))
        if status.st_size > most:
            raise OSError(errno.EFBIG, f"{status.st_size} bytes, allowed: {most}", str(path))
        return file.read()


def measure(folder: Path, names: Iterable[str], durable: bool = False) -> dict[str, FileRecord]:
    """Size and checksum of these files of ``folder``; with ``durable``, once the disk has their content."""

    def one(name: str) -> FileRecord:
        with open(folder / name, "rb") as file:
            checksum = hashlib.file_digest(file, "sha256").hexdigest()
            if durable:
                os.fsync(file.fileno())
            return FileRecord(size=os.fstat(file.fileno()).st_size, checksum=checksum)

    names = sorted(names)
    with ThreadPoolExecutor(THREADS) as pool:
        return dict(zip(names, pool.map(one, names), strict=True))


def sizes(folder: Path) -> dict[str, int]:
    """Bytes of every file below ``folder``, by its path with ``/``; -1 for what is no plain file (a link, say)."""
    found = {}
    for parent, folders, files in os.walk(folder, onerror=_raise):
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        for name in [*files, *links]:
            path = Path(parent, name)
            status = path.lstat()
            found[path.relative_to(folder).as_posix()] = status.st_size if stat.S_ISREG(status.st_mode) else -1
    return found


def _raise(error: OSError) -> NoReturn:
    raise error


def compare_sizes(found: Mapping[str, int], written: Mapping[str, FileRecord]) -> dict[str, str]:
    """What is wrong with each file, as far as names and sizes tell."""
    problems = {}
    for name, record in written.items():
        if name not in found:
            problems[name] = f"{name} is missing"
        elif found[name] != record.size:
            given = "no plain file" if found[name] < 0 else f"{found[name]} bytes"
            problems[name] = f"{name} is {given}, was {record.size} bytes"
    return problems | {name: f"{name} is not in the manifest" for name in found.keys() - written.keys()}


def compare_checksums(folder: Path, written: Mapping[str, FileRecord]) -> dict[str, str]:
    """Which files of ``folder``, all of which exist, hold something else than was written."""
    found = measure(folder, written)
    changed = [name for name in written if found[name] != written[name]]
    return {name: f"{name} is damaged: its checksum is not that of what was written" for name in changed}
