"""What a checkpoint of a run holds, and which moment it stands for.

A checkpoint stands for the end of a step: the trainer ranks' weights, optimizer, schedule and random states, and the
states of the controller's owners (``Owners``) as they were then. Those are remembered at each step's end, so that a run
asked to stop in the middle of the next step can still save: until its update the ranks hold what they held.

::

    trainer/       the ranks' states (mrpo.checkpoint.sharded)
    controller/    the owners' states, a file each
    rollouts/      with rollout.ahead: what later steps will train on (mrpo.step.ahead)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from mrpo.checkpoint.owners import Owners
from mrpo.checkpoint.store import CheckpointStore
from mrpo.config.checkpoint import CheckpointConfig

RANKS_FOLDER, OWNERS_FOLDER, AHEAD_FOLDER = "trainer", "controller", "rollouts"


class StopRequested(Exception):
    """The run was asked to end early; raised where it waits, so that it can save and end."""


class Ranks(Protocol):
    """The trainer ranks, as verl's worker group shows them: each call goes to all of them and returns when all did."""

    def save_state(self, folder: str, asynchronous: bool) -> list[float]: ...

    def wait_saved(self) -> list[None]: ...


class Boundary(NamedTuple):
    """The end of a step."""

    step: int
    states: dict[str, dict[str, Any]]
    metrics: dict[str, float]


class RunCheckpoints:
    """Owner of the last boundary, and of a save that is still being written.

    Args:
        config: how often, and what is kept.
        store: where checkpoints lie.
        owners: what the controller must not forget.
        identity: what the run is made of (``mrpo.checkpoint.compatible.describe``); resuming compares it.
        attempt: which start of the run this is, from 1.
        start: the step that this attempt goes on from; it needs no saving.
        save_ahead: writes what was under way at the boundary into a folder, given it.
    """

    def __init__(
        self,
        config: CheckpointConfig,
        store: CheckpointStore,
        owners: Owners,
        identity: Mapping[str, Any],
        attempt: int,
        start: int,
        save_ahead: Callable[[Path], None] = lambda folder: None,
    ):
        self.config, self.store, self.owners = config, store, owners
        self.identity, self.attempt, self.save_ahead = dict(identity), attempt, save_ahead
        self.saved_step = start
        self.blocked_seconds = 0.0
        """How long saving has kept the run from training, since it was last asked for (``take_blocked_seconds``)."""
        self._boundary: Boundary | None = None
        self._publishing: Future[object] | None = None
        self._staged: tuple[Boundary, Path] | None = None
        self._thread = ThreadPoolExecutor(1, "publish")

    @property
    def has_boundary(self) -> bool:
        return self._boundary is not None

    @property
    def boundary_step(self) -> int:
        assert self._boundary is not None, "no step is over yet"
        return self._boundary.step

    def remember(self, step: int, metrics: Mapping[str, float]) -> None:
        """``step`` is over, and everything it leaves is written."""
        self._boundary = Boundary(step, self.owners.states(), dict(metrics))

    def is_due(self, step: int, last: int) -> bool:
        regular = self.config.every > 0 and step % self.config.every == 0
        wanted = regular or (self.config.final and step == last)
        return wanted and step != self.saved_step

    def save(self, ranks: Ranks, asynchronous: bool = False) -> int:
        """Save the last boundary, unless it is saved already; returns its step.

        With ``asynchronous`` it returns when the ranks have copied their states; ``settle`` publishes what they wrote.
        """
        assert self._boundary is not None, "no step is over yet"
        began = time.monotonic()
        self.settle(ranks, wait=True)
        boundary = self._boundary
        if boundary.step != self.saved_step:
            staging = self.store.staging(boundary.step)
            ranks.save_state(str(staging / RANKS_FOLDER), asynchronous)
            self.owners.save(staging / OWNERS_FOLDER, boundary.states)
            self.save_ahead(staging / AHEAD_FOLDER)
            self._staged, self.saved_step = (boundary, staging), boundary.step
            if not asynchronous:
                self.settle(ranks, wait=True)
        self.blocked_seconds += time.monotonic() - began
        return boundary.step

    def settle(self, ranks: Ranks, wait: bool = False) -> None:
        """Publish what was saved in the background: the ranks must have written it all by now, or are waited for.

        Reading it back for its checksums goes on in a thread; with ``wait`` it is over on return.
        """
        if self._staged is not None:
            boundary, staging = self._staged
            ranks.wait_saved()
            self._staged = None
            self._publishing = self._thread.submit(self._publish, boundary, staging)
        if self._publishing is not None and (wait or self._publishing.done()):
            self._publishing.result()
            self._publishing = None

    def _publish(self, boundary: Boundary, staging: Path) -> None:
        self.store.publish(
            staging,
            boundary.step,
            attempt=self.attempt,
            metrics=boundary.metrics,
            extra={"identity": self.identity},
        )
        self.store.retain(self.config)

    def take_blocked_seconds(self) -> float:
        seconds, self.blocked_seconds = self.blocked_seconds, 0.0
        return seconds
