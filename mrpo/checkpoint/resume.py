"""Which checkpoint a start of a run goes on from."""

from __future__ import annotations

from typing import Any

from mrpo.checkpoint.manifest import MANIFEST, CheckpointError, Manifest
from mrpo.checkpoint.store import CheckpointStore, Search
from mrpo.config.checkpoint import ResumeConfig
from mrpo.errors import ConfigError


def choose(store: CheckpointStore, config: ResumeConfig) -> Search:
    """The checkpoint that ``config`` asks for; ``found`` is None if the run begins at step 0.

    Whoever goes on from it calls ``store.rewind(found.step)`` first, as what is later is of another course.

    Raises:
        ConfigError: the mode doesn't go with what there is.
        CheckpointError: the step asked for isn't whole or no run's, or there are checkpoints and none is.
    """
    if config.mode == "never":
        if steps := store.steps():
            raise ConfigError(
                f"resume.mode: given never, but {store.root} has checkpoints of steps {steps}; "
                "allowed: auto or require, or a new run_dir"
            )
        return Search(None, [])
    if config.step is not None:
        return Search(store.load(config.step, usable=saved_identity), [])
    search = store.newest_whole(usable=saved_identity)
    if config.mode == "require" and search.found is None:
        raise ConfigError(f"resume.mode: given require, but {store.root} has no checkpoint; allowed: auto")
    return search


def saved_identity(manifest: Manifest) -> dict[str, Any]:
    """What the run that saved the checkpoint is made of (``compatible.describe``). Raises CheckpointError if that isn't
    in it: it can't be known then whether this is the same run."""
    identity = manifest.extra.get("identity")
    if not isinstance(identity, dict):
        found = "is missing" if "identity" not in manifest.extra else f"is {identity!r:.80}"
        raise CheckpointError(f"{MANIFEST} is not that of a run: extra.identity {found}")
    return identity
