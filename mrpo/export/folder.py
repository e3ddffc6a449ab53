"""A folder that is whole or absent: it is filled under a hidden name beside its own, and gets that by one rename."""

from __future__ import annotations

import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mrpo.errors import ConfigError
from mrpo.export.error import ExportError
from mrpo.process import is_alive


def require_new(target: Path) -> None:
    """Raises ConfigError if there is something at ``target``: an export never overwrites."""
    if os.path.lexists(target):
        raise ConfigError(f"--out: {target} exists. Allowed: a new folder; remove or rename that one first.")


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A hidden folder to fill, which becomes ``target`` at the end; after an error nothing of it is left.

    What a killed process left of an earlier try at the same target is removed first.

    Raises:
        ConfigError: there is something at ``target``.
        ExportError: another process is making the same target.
    """
    require_new(target)
    host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())
    for other, there, pid in _partials(target):
        if there == host and (pid == os.getpid() or not is_alive(pid)):
            shutil.rmtree(other)
        else:
            who = f"process {pid} on {there}"
            raise ExportError(f"{other} is being filled by {who}. If that has ended, remove the folder; else wait.")
    partial = target.with_name(f".{target.name}.{host}.{os.getpid()}.partial")
    partial.mkdir(parents=True)
    try:
        yield partial
        for parent, _, files in os.walk(partial, topdown=False):
            for name in ["", *files]:
                _sync(os.path.join(parent, name))
        require_new(target)
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    _sync(target.parent)


def _partials(target: Path) -> Iterator[tuple[Path, str, int]]:
    pattern = re.compile(rf"\.{re.escape(target.name)}\.([^.]+)\.(\d+)\.partial")
    for entry in sorted(target.parent.iterdir()) if target.parent.is_dir() else []:
        if match := pattern.fullmatch(entry.name):
            yield entry, match[1], int(match[2])


def _sync(path: str | Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
