"""Checkpoints in a folder that every node sees. One rename publishes, one rename removes.

::

    step-00000012/                          published: manifest.json and the files it lists
    .step-00000016.<host>.<pid>.<random>.partial   being written, or its writer died
    .step-00000008.….removed                being removed, or its remover died
    .step-00000020.….given-up               of a course of training that was left
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
import time
from pathlib import Path

from mrpo.checkpoint import manifest as manifests
from mrpo.checkpoint.manifest import Manifest
from mrpo.checkpoint.storage import step_name, step_of
from mrpo.process import is_alive

PARTIAL, REMOVED, GIVEN_UP = "partial", "removed", "given-up"
ABANDONED_SECONDS = 86400.0
"""A staging folder of another host, whose processes can't be asked after, is abandoned at this age."""

_HIDDEN = re.compile(rf"\.step-(\d+)\.([^.]+)\.(\d+)\.[^.]+\.({PARTIAL}|{REMOVED}|{GIVEN_UP})")


class FolderStorage:
    """``Storage`` in the folder ``root``, which is made when it is first written to."""

    def __init__(self, root: Path):
        self.root = root
        self._staged: Path | None = None
        self._host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())

    def steps(self) -> list[int]:
        return sorted(step for entry in self._entries() if (step := step_of(entry.name)) is not None)

    def unfinished(self) -> dict[int, str]:
        hidden = ((entry, _HIDDEN.fullmatch(entry.name)) for entry in self._entries())
        abandoned = [m for entry, m in hidden if m and m[4] == PARTIAL and self._abandoned(entry, m)]
        return {int(m[1]): "was never finished" for m in abandoned}

    def manifest(self, step: int) -> Manifest:
        return manifests.read(self.root / step_name(step))

    def problems(self, step: int, manifest: Manifest, checksums: bool) -> list[str]:
        return manifests.verify(self.root / step_name(step), manifest, checksums)

    def fetch(self, step: int, manifest: Manifest) -> Path:
        return self.root / step_name(step)

    def staging(self, step: int) -> Path:
        if self._staged is not None:
            shutil.rmtree(self._staged, ignore_errors=True)
        self._staged = self.root / self._hidden_name(step, PARTIAL)
        self._staged.mkdir(parents=True)
        return self._staged

    def publish(self, staging: Path, manifest: Manifest) -> Path:
        manifests.write(staging, manifest)
        for folder, _, _ in os.walk(staging, topdown=False):
            _sync(Path(folder))
        final = self.root / step_name(manifest.step)
        if os.path.lexists(final):
            self.give_up(manifest.step)
        staging.rename(final)
        _sync(self.root)
        self._staged = None
        return final

    def give_up(self, step: int) -> None:
        self._hide(step, GIVEN_UP)

    def remove(self, step: int) -> None:
        _delete(self._hide(step, REMOVED))

    def clean(self) -> None:
        for entry in self._entries():
            match = _HIDDEN.fullmatch(entry.name)
            if match and (match[4] != PARTIAL or self._abandoned(entry, match)):
                _delete(entry)

    def _entries(self) -> list[Path]:
        try:
            return list(self.root.iterdir())
        except FileNotFoundError:
            return []

    def _hidden_name(self, step: int, kind: str) -> str:
        return f".{step_name(step)}.{self._host}.{os.getpid()}.{secrets.token_hex(4)}.{kind}"

    def _hide(self, step: int, kind: str) -> Path:
        hidden = self.root / self._hidden_name(step, kind)
        (self.root / step_name(step)).rename(hidden)
        _sync(self.root)
        return hidden

    def _abandoned(self, partial: Path, match: re.Match[str]) -> bool:
        if partial == self._staged:
            return False
        try:
            age = time.time() - partial.stat().st_mtime
        except FileNotFoundError:  # published or removed since the folder was listed
            return False
        host, pid = match[2], int(match[3])
        if host != self._host or age > ABANDONED_SECONDS:
            return age > ABANDONED_SECONDS
        # In a container that starts again, the dead writer may have had this process's id.
        return pid == os.getpid() or not is_alive(pid)


def _delete(path: Path) -> None:
    """Remove what is hidden already. What can't be removed now (a file still open on NFS) is, by a later clean."""
    shutil.rmtree(path, ignore_errors=True)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
