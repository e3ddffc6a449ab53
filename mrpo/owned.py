"""Temporary folders that say whether whoever made them lives, so that what a killed process left can be removed.

A lock on ``owner.json`` says it: the kernel releases it with the last process that holds it, however that ends, and
among containers that share a folder but see other process ids each sees the others' locks.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
from pathlib import Path

PREFIX, OWNER = "mrpo-", "owner.json"
"""What the folders' names begin with, and the file in each that its owner holds locked."""


def own(folder: Path) -> int:
    """A descriptor that says, for as long as it is open in any process, that ``folder``, which is new, has an owner."""
    unnamed = folder / f".{OWNER}"
    lock = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    with contextlib.suppress(OSError):  # a file system without locks, in which nobody will take the folder for left
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.write(lock, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode())
    unnamed.rename(folder / OWNER)  # locked before anybody sees it
    return lock


def take_lock(file: Path) -> int | None:
    """A descriptor that locks ``file``. None: there is none, or somebody else holds it."""
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return None  # it is being made, or is no folder of ours
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
