"""A run's checkpoints. Each one is whole or absent: whenever the writer is killed, the store shows no other.

One process at a time writes to a store.
"""

from __future__ import annotations

import datetime
import math
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from mrpo.checkpoint.files import measure, sizes
from mrpo.checkpoint.manifest import MANIFEST, CheckpointError, Manifest, packages
from mrpo.checkpoint.retention import kept
from mrpo.checkpoint.storage import open_storage, step_name
from mrpo.config.checkpoint import CheckpointConfig


class Found(NamedTuple):
    """A whole checkpoint, every byte of it verified, in a local folder."""

    step: int
    folder: Path
    manifest: Manifest


class Skipped(NamedTuple):
    """A checkpoint that can't be used, and why."""

    name: str
    reason: str


class Search(NamedTuple):
    """The newest whole checkpoint, if there is any, and what is newer but can't be used."""

    found: Found | None
    skipped: list[Skipped]


class CheckpointStore:
    """Checkpoints under ``root``: a folder that every node sees, or a URL that fsspec knows.

    Args:
        root: where they lie; it needn't exist yet.
        scratch: for a URL, the folder (seen by every node) to write them in and to download them to.
    """

    def __init__(self, root: str | os.PathLike[str], scratch: str | os.PathLike[str] | None = None):
        self.root = os.fspath(root)
        self._storage = open_storage(self.root, scratch)
        self._verified: dict[int, Manifest] = {}

    def steps(self) -> list[int]:
        """Steps that were published and not removed, ascending."""
        return self._storage.steps()

    # ---- reading ----

    def manifests(self) -> dict[int, Manifest]:
        """Those that can be read, by step. Whether the rest of a checkpoint is whole is another question."""
        found = {}
        for step in self.steps():
            with suppress(CheckpointError):
                found[step] = self._manifest(step)
        return found

    def newest_whole(self, usable: Callable[[Manifest], object] = lambda _: None) -> Search:
        """The newest checkpoint that is whole; ``found`` is None only if none was ever published.

        Args:
            usable: raises CheckpointError for the manifest of one that the caller can't use.

        Raises:
            CheckpointError: there are checkpoints, and each one is damaged.
        """
        skipped: list[Skipped] = []
        for step in reversed(self.steps()):
            try:
                return Search(self._open(step, usable), [*skipped, *self._unfinished(after=step)])
            except CheckpointError as error:
                skipped.append(Skipped(step_name(step), str(error)))
        if skipped:
            reasons = "".join(f"\n  {name}: {reason}" for name, reason in skipped)
            raise CheckpointError(f"{self.root}: no checkpoint is whole:{reasons}")
        return Search(None, self._unfinished(after=0))

    def load(self, step: int, usable: Callable[[Manifest], object] = lambda _: None) -> Found:
        """The checkpoint of this step. Raises CheckpointError if there is none, or it is damaged or not ``usable``."""
        steps = self.steps()
        if step not in steps:
            raise CheckpointError(f"{self.root}: no checkpoint of step {step}. There are: {steps or 'none'}")
        try:
            return self._open(step, usable)
        except CheckpointError as error:
            raise CheckpointError(f"{self.root}: {step_name(step)}: {error}") from None

    def _open(self, step: int, usable: Callable[[Manifest], object]) -> Found:
        manifest = self._manifest(step)
        usable(manifest)
        if problems := self._storage.problems(step, manifest, checksums=True):
            raise CheckpointError("; ".join(problems))
        folder = self._storage.fetch(step, manifest)
        self._verified[step] = manifest
        return Found(step, folder, manifest)

    def _manifest(self, step: int) -> Manifest:
        manifest = self._storage.manifest(step)
        if manifest.step != step:
            raise CheckpointError(f"{MANIFEST} is that of step {manifest.step}")
        return manifest

    def _unfinished(self, after: int) -> list[Skipped]:
        newest_first = sorted(self._storage.unfinished().items(), reverse=True)
        return [Skipped(step_name(step), reason) for step, reason in newest_first if step > after]

    # ---- writing ----

    def staging(self, step: int) -> Path:
        """A new, empty local folder to write the checkpoint of this step into; ``publish`` makes it one.

        One at a time: the last one is removed if it wasn't published.
        """
        return self._storage.staging(step)

    def publish(
        self,
        staging: Path,
        step: int,
        *,
        attempt: int = 1,
        metrics: Mapping[str, float] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> Found:
        """Make what lies in ``staging`` the checkpoint of ``step``, once every byte of it is on the disk.

        Args:
            attempt: which start of the run this is, from 1.
            metrics: the step's, of which retention may choose the best; those that aren't finite are left out.
            extra: plain JSON to find in ``manifest.extra`` again.

        Raises:
            CheckpointError: the step has a whole checkpoint already, or the folder holds something else than files.
        """
        if step in self.steps() and self._whole(step) is not None:
            raise CheckpointError(f"{self.root}: {step_name(step)} exists; going back to an earlier step is `rewind`")
        found = sizes(staging)
        if odd := [name for name, size in found.items() if size < 0]:
            raise CheckpointError(f"{step_name(step)}: {odd[0]} is not a plain file")
        finite = {name: float(value) for name, value in (metrics or {}).items() if math.isfinite(value)}
        manifest = Manifest(
            step=step,
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            attempt=attempt,
            packages=dict(packages()),
            metrics=finite,
            files=measure(staging, found, durable=True),
            extra=dict(extra or {}),
        )
        folder = self._storage.publish(staging, manifest)
        self._verified[step] = manifest
        self._storage.clean()
        return Found(step, folder, manifest)

    def rewind(self, step: int) -> list[int]:
        """Give up every checkpoint later than ``step``, as training goes on from there. Returns their steps.

        They are out of sight at once, and are removed when the next checkpoint is published.
        """
        later = [other for other in self.steps() if other > step]
        for other in reversed(later):
            self._storage.give_up(other)
        return later

    def retain(self, config: CheckpointConfig) -> list[int]:
        """Remove the whole checkpoints that ``config`` doesn't keep; returns their steps.

        What isn't whole is neither counted nor removed. A checkpoint counts once this process has written it or has
        read all of it; from then on its sizes are looked at. So the newest whole one always stays.
        """
        whole = {step: manifest for step in self.steps() if (manifest := self._whole(step)) is not None}
        keep = kept({step: manifest.metrics for step, manifest in whole.items()}, config)
        removed = sorted(whole.keys() - keep)
        for step in removed:
            self._storage.remove(step)
        return removed

    def _whole(self, step: int) -> Manifest | None:
        try:
            manifest = self._manifest(step)
        except CheckpointError:
            return None
        if self._storage.problems(step, manifest, checksums=self._verified.get(step) != manifest):
            return None
        self._verified[step] = manifest
        return manifest
