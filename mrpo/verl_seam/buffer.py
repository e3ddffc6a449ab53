"""verl's replay buffer as a run uses it: one step's prompts at a time, though others may be under way."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer, _accumulate_eviction_metrics

from mrpo.errors import ConfigError
from mrpo.step.rollouts import RowKey
from mrpo.step.seam import Commit, Metrics
from mrpo.verl_seam import rows

LOOK_SECONDS = 2.0
"""So often verl looks for finished rollouts; here also as soon as all that are waited for have ended."""
LOOK_SECONDS_A_ROW = 20e-6
"""What a look costs, about. The next is as far away: at most half of the time goes into looks."""
PAUSE_SECONDS = 0.5
"""So often the run looks after the rest while it waits for rollouts."""


class Pilots(Protocol):
    """Those who sample prompts in two parts (``agent_loop.AgentLoops``)."""

    def pilots(self) -> dict[str, float]: ...

    def commit(self, more: Mapping[str, int]) -> None: ...


def sleep(seconds: float) -> float:
    """Where nobody says how many prompts have ended: as if all had, since a look is needed to know."""
    time.sleep(seconds)
    return math.inf


def pilots_of(agent_loops: Any, method: str) -> Pilots:
    """Raises ConfigError: another agent loop manager than ours may be named."""
    if not hasattr(agent_loops, "pilots"):
        raise ConfigError(
            f"budget.method: given {method} with another agent loop manager than this package's, which samples no "
            "pilots. Allowed: another method."
        )
    pilots: Pilots = agent_loops
    return pilots


class StepBuffer:
    """Owner of which step's rollouts are waited for.

    Args:
        buffer: verl's, which takes any finished prompts, the oldest first.
        mini_batches: batches that a step's prompts come in.
        strict: which prompts make a mini-batch must not depend on who finished first.
        look: called again and again in a wait, with the partition and the number of prompts without an end.
    """

    def __init__(self, buffer: ReplayBuffer, mini_batches: int, strict: bool, look: Callable[[str, int], None]):
        self.buffer, self.mini_batches, self.strict, self.look = buffer, mini_batches, strict, look
        self.step = 0
        self.split: list[KVBatchMeta] = []
        """Mini-batches of the step that are ready, where they must not depend on who finished first."""
        self.replaced: dict[int, Metrics] = {}
        """By step: verl's metrics of the groups that ``tend`` has replaced."""
        self.wait_for_end: Callable[[float], float] = sleep
        """Waits for a prompt's end, so many seconds at most; returns how many have ended."""
        self.pilots: Pilots | None = None
        """Who samples prompts in two parts; None: nobody does."""
        self.commit: Commit | None = None
        """Divides the rest of the step's rollouts over the prompts whose pilots are there."""
        self.eager = buffer.filter_groups_metric is not None or (mini_batches > 1 and not strict)
        """Whether something is to be done before all of a step's prompts have ended."""
        buffer.poll_interval = 0.0
        self._sync, self._wait = buffer._sync_metadata_from_transfer_queue, buffer._wait_for_next_poll
        buffer._sync_metadata_from_transfer_queue = self._sync_step  # type: ignore[method-assign]
        buffer._wait_for_next_poll = self._wait_and_look  # type: ignore[method-assign,assignment]

    @property
    def unfinished(self) -> set[str]:
        """Prompts of the step, and of a validation, without an end, when they were last looked at."""
        of_status = [*list(self.buffer.pending_keys.values()), *list(self.buffer.running_keys.values())]
        return {uid for uids in of_status for uid in list(uids)}  # another thread may be changing them

    def sample(
        self, step: int, prompts: int, refill: Callable[[int], None], commit: Commit | None
    ) -> tuple[KVBatchMeta, Metrics]:
        """The next so many prompt groups of ``step``, waited for, in the order of their keys, and verl's metrics."""
        self.step, self.buffer.refill_fn, self.commit = step, refill, commit
        metrics: Metrics = self.replaced.pop(step, {})
        if self.mini_batches == 1 or not self.strict:
            meta, sampled = self.buffer.sample(step, rows.PARTITION, prompts)
            _accumulate_eviction_metrics(metrics, sampled, 0)
        else:
            if not self.split:
                whole, sampled = self.buffer.sample(step, rows.PARTITION, prompts * self.mini_batches)
                _accumulate_eviction_metrics(metrics, sampled, 0)
                self.split = rows.split(whole, prompts)
            meta = self.split.pop(0)
        # In the order of their keys rows make the same micro-batches, and so the same sums, whoever finished first.
        order = sorted(range(len(meta.keys)), key=lambda i: RowKey.parse(meta.keys[i]))
        meta.keys, meta.tags = [meta.keys[i] for i in order], [meta.tags[i] for i in order]
        return meta, metrics

    def tend(self, step: int, refill: Callable[[int], None], commit: Commit | None) -> int:
        """Replace what has failed or is filtered out of ``step`` by now, or else go on with those of its prompts that
        wait for each other; returns its prompts without an end."""
        self.step, self.commit = step, commit
        self.buffer._sync_metadata_from_transfer_queue()
        reasons = self.buffer._terminal_eviction_reasons(step, rows.PARTITION)
        evicted, *_, metrics = self.buffer._evict_terminal_groups(step, rows.PARTITION, reasons)
        if evicted:
            _accumulate_eviction_metrics(self.replaced.setdefault(step, {}), metrics, 0)
            refill(len(evicted))
        else:
            self._go_on()
        of_status: tuple[Any, ...] = self.buffer.pending_keys, self.buffer.running_keys
        return len(evicted) + sum(len(uids[rows.PARTITION]) for uids in of_status)

    def _sync_step(self) -> None:
        self._sync()
        step_of = self.buffer.prompt_global_steps[rows.PARTITION]
        others = {uid for uid, step in step_of.items() if step != self.step}
        buffer = self.buffer
        for of_status in (buffer.pending_keys, buffer.running_keys, buffer.finished_keys, buffer.failure_keys):
            of_status[rows.PARTITION] -= others

    def _go_on(self) -> int:
        """If all of the step's prompts without an end have a pilot, have the rest divided over them. It is done where
        nothing is left to be replaced, so that it doesn't depend on who finished first. Returns how many still wait."""
        if self.pilots is None or self.commit is None:
            return 0
        buffer = self.buffer
        unfinished = buffer.pending_keys[rows.PARTITION] | buffer.running_keys[rows.PARTITION]
        waiting = {uid: variance for uid, variance in self.pilots.pilots().items() if uid in unfinished}
        if not waiting or waiting.keys() != unfinished:
            return len(waiting)
        self.pilots.commit(self.commit(waiting))
        return 0

    def _wait_and_look(self, partition: str, last_debug_time: float) -> float:
        """verl waits for rollouts in one place, in training and in validation: there, wait until those that had no end
        have ended, and look up meanwhile."""
        buffer, ended = self.buffer, 0.0
        unfinished = len(buffer.pending_keys[partition]) + len(buffer.running_keys[partition])
        awaited = unfinished - (self._go_on() if partition == rows.PARTITION else 0)
        time.sleep(len(buffer.partitions[partition]) * LOOK_SECONDS_A_ROW)
        until = time.monotonic() + LOOK_SECONDS
        while time.monotonic() < until and ended < (1 if self.eager else max(1, awaited)):
            self.look(partition, max(0, unfinished - int(ended)))
            ended += self.wait_for_end(PAUSE_SECONDS)
        return self._wait(partition, last_debug_time)
