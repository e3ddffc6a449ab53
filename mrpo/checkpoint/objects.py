"""Checkpoints in an object storage, through fsspec. There is no rename there: the manifest, uploaded last, publishes.

::

    <root>/step-00000012/actor/…             the files, then
    <root>/step-00000012/manifest.json       the moment from which the checkpoint exists

A checkpoint is written to, and read from, a local folder (``cache``), which keeps the newest one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fsspec import AbstractFileSystem

from mrpo.checkpoint.files import compare_sizes
from mrpo.checkpoint.folder import FolderStorage
from mrpo.checkpoint.manifest import MANIFEST, CheckpointError, Manifest, decode, encode, verify
from mrpo.checkpoint.storage import step_name, step_of


class ObjectStorage:
    """``Storage`` under the prefix ``root`` of an fsspec file system."""

    def __init__(self, system: AbstractFileSystem, root: str, cache: FolderStorage):
        self.system, self.root, self.cache = system, root.rstrip("/"), cache

    def steps(self) -> list[int]:
        return [step for step in self._folders() if MANIFEST in self._sizes(step)]

    def unfinished(self) -> dict[int, str]:
        reason = f"has no {MANIFEST}: it was never finished, or was given up"
        return {step: reason for step in self._folders() if MANIFEST not in self._sizes(step)}

    def manifest(self, step: int) -> Manifest:
        try:
            return decode(self.system.cat_file(self._path(step, MANIFEST)))
        except FileNotFoundError:
            raise CheckpointError(f"{MANIFEST} is missing") from None

    def problems(self, step: int, manifest: Manifest, checksums: bool) -> list[str]:
        """Names and sizes only: the storage guards the content, and ``fetch`` compares checksums."""
        found = self._sizes(step)
        found.pop(MANIFEST, None)
        return sorted(compare_sizes(found, manifest.files).values())

    def fetch(self, step: int, manifest: Manifest) -> Path:
        if step in self.cache.steps() and not self.cache.problems(step, manifest, checksums=True):
            return self.cache.fetch(step, manifest)
        staging = self.cache.staging(step)
        for name in manifest.files:
            (staging / name).parent.mkdir(parents=True, exist_ok=True)
        files = list(manifest.files)
        self.system.get([self._path(step, name) for name in files], [str(staging / name) for name in files])
        if problems := verify(staging, manifest):
            raise CheckpointError("; ".join(problems))
        return self._keep(staging, manifest)

    def staging(self, step: int) -> Path:
        return self.cache.staging(step)

    def publish(self, staging: Path, manifest: Manifest) -> Path:
        step, files = manifest.step, list(manifest.files)
        self.remove(step)  # what an upload that broke off has left
        self.system.put([str(staging / name) for name in files], [self._path(step, name) for name in files])
        if problems := self.problems(step, manifest, checksums=False):
            raise CheckpointError(f"upload of {step_name(step)}: {'; '.join(problems)}")
        self.system.pipe_file(self._path(step, MANIFEST), encode(manifest))
        return self._keep(staging, manifest)

    def give_up(self, step: int) -> None:
        self.system.rm_file(self._path(step, MANIFEST))

    def remove(self, step: int) -> None:
        found = self._sizes(step)
        if MANIFEST in found:
            self.give_up(step)
        if found:
            self.system.rm(self._path(step), recursive=True)

    def clean(self) -> None:
        for step in self.unfinished():
            self.system.rm(self._path(step), recursive=True)
        self.cache.clean()

    def _keep(self, staging: Path, manifest: Manifest) -> Path:
        folder = self.cache.publish(staging, manifest)
        for step in self.cache.steps():
            if step != manifest.step:
                self.cache.remove(step)
        return folder

    def _path(self, step: int, name: str = "") -> str:
        return f"{self.root}/{step_name(step)}/{name}".rstrip("/")

    def _folders(self) -> list[int]:
        self.system.invalidate_cache()
        names = [entry["name"].rstrip("/").rpartition("/")[2] for entry in self._ls(self.root)]
        return sorted(step for name in names if (step := step_of(name)) is not None)

    def _sizes(self, step: int) -> dict[str, int]:
        """Bytes of every object of a checkpoint, by its path in it."""
        self.system.invalidate_cache()
        folder = self._path(step)
        return {name.removeprefix(folder + "/"): size for name, size in self._walk(folder)}

    def _walk(self, folder: str) -> Iterator[tuple[str, int]]:
        # fsspec's own walk and find take a listing that failed for an empty folder.
        for entry in self._ls(folder):
            name = entry["name"].rstrip("/")
            if entry["type"] == "directory":
                yield from self._walk(name)
            elif name != folder:
                yield name, entry["size"]

    def _ls(self, folder: str) -> list[dict]:
        try:
            return self.system.ls(folder, detail=True)
        except FileNotFoundError:
            return []
