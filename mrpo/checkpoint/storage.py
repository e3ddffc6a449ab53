"""Where checkpoints lie: what the store needs of a place, and how they are named in it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Protocol

from mrpo.checkpoint.manifest import Manifest
from mrpo.errors import ConfigError

_NAME = re.compile(r"step-([0-9]{8,15})")


def step_name(step: int) -> str:
    """``step-00000012``: sorts like the number."""
    return f"step-{step:08d}"


def step_of(name: str) -> int | None:
    """The step of a checkpoint's name; None for any other name."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


class Storage(Protocol):
    """One folder, or one prefix of an object storage. One process at a time writes to it."""

    def steps(self) -> list[int]:
        """Steps that were published, ascending; whether they are whole still is another question."""

    def unfinished(self) -> dict[int, str]:
        """Steps whose checkpoint was begun and isn't published though nobody is at it, and why that is so."""

    def manifest(self, step: int) -> Manifest:
        """A published checkpoint's manifest. Raises CheckpointError if it is missing or damaged."""

    def problems(self, step: int, manifest: Manifest, checksums: bool) -> list[str]:
        """As ``manifest.verify``, as far as it can be told without copying the checkpoint."""

    def fetch(self, step: int, manifest: Manifest) -> Path:
        """A local folder with its files. Raises CheckpointError if what arrives isn't what was written."""

    def staging(self, step: int) -> Path:
        """A new local folder to write a checkpoint into. An earlier one that wasn't published is removed."""

    def publish(self, staging: Path, manifest: Manifest) -> Path:
        """Make a staged checkpoint visible, all at once, in place of a damaged one. Returns its local folder."""

    def give_up(self, step: int) -> None:
        """Hide a published checkpoint, at once; ``clean`` removes it."""

    def remove(self, step: int) -> None:
        """Remove a published checkpoint; from the first moment on it isn't visible."""

    def clean(self) -> None:
        """Remove what was given up, and what dead processes left."""


def open_storage(root: str, scratch: str | os.PathLike[str] | None) -> Storage:
    """The place that ``root`` names, a folder or a URL; ``scratch`` is the local folder that a URL needs.

    Raises:
        ConfigError: a URL without ``scratch``, or of a kind that fsspec doesn't know or has no driver for.
    """
    from mrpo.checkpoint.folder import FolderStorage

    if "://" not in root:
        return FolderStorage(Path(root).expanduser())
    from fsspec.core import url_to_fs
    from fsspec.implementations.local import LocalFileSystem

    from mrpo.checkpoint.objects import ObjectStorage

    try:
        system, path = url_to_fs(root)
    except (ImportError, ValueError) as error:
        raise ConfigError(f"checkpoint.folder: given {root}: {error}") from None
    if isinstance(system, LocalFileSystem):
        return FolderStorage(Path(path))
    if scratch is None:
        raise ConfigError(f"checkpoint.folder: given {root}, allowed with a local folder to write and download in")
    return ObjectStorage(system, path, FolderStorage(Path(scratch) / "cache"))
