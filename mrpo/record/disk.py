"""Is a folder's disk full? Programs that couldn't write often say something else."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

ENOUGH = 1 << 20
FULL = {errno.ENOSPC: "its disk is full", errno.EDQUOT: "this user's quota is used up"}


def full(folder: Path) -> str:
    """Why a megabyte can't be written there: no space or quota, in words; empty if it can, or for another reason.

    >>> full(Path("/tmp"))
    ''
    """
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".full-") as file:
            os.posix_fallocate(file.fileno(), 0, ENOUGH)
    except OSError as error:
        return f"{folder}: {FULL[error.errno]}" if error.errno in FULL else ""
    return ""
