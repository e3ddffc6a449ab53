"""Which checkpoint a start of a run goes on from."""

from __future__ import annotations

from mrpo.checkpoint.store import CheckpointStore, Search
from mrpo.config.checkpoint import ResumeConfig
from mrpo.errors import ConfigError


def choose(store: CheckpointStore, config: ResumeConfig) -> Search:
    """The checkpoint that ``config`` asks for; ``found`` is None if the run begins at step 0.

    Whoever goes on from it calls ``store.rewind(found.step)`` first, as what is later is of another course.

    Raises:
        ConfigError: the mode doesn't go with what there is.
        CheckpointError: the step asked for isn't whole, or there are checkpoints and none is.
    """
    if config.mode == "never":
        if steps := store.steps():
            raise ConfigError(
                f"resume.mode: given never, but {store.root} has checkpoints of steps {steps}; "
                "allowed: auto or require, or a new run_dir"
            )
        return Search(None, [])
    if config.step is not None:
        return Search(store.load(config.step), [])
    search = store.newest_whole()
    if config.mode == "require" and search.found is None:
        raise ConfigError(f"resume.mode: given require, but {store.root} has no checkpoint; allowed: auto")
    return search
