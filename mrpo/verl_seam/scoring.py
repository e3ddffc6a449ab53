"""Rollouts on their way to the reward workers: those that end together go in one message to each worker."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayActorError

from mrpo.record.busy import Interval
from mrpo.verl_seam.batched import Batcher, Call, ask

BUSY_SECONDS = 1.0
"""In which reward workers must say when they were at work; of one that is starting again nobody knows it."""


def take_busy(workers: Sequence[Any]) -> list[list[Interval]]:
    """When each of the workers was at work since it was last asked, as far as they say."""
    asked = [worker.take_busy.options(max_task_retries=0).remote() for worker in workers]
    told = []
    for answer in ray.wait(asked, num_returns=len(asked), timeout=BUSY_SECONDS)[0] if asked else ():
        with suppress(RayActorError):  # it has died, and starts again
            told.append(ray.get(answer))
    return [intervals for intervals in told if intervals is not None]


class RewardWorkers:
    """Asks them for scores. Rollouts are dealt out in turn, so that slow rewards are computed side by side.

    Args:
        workers: the actors (``recovery.RewardLoopWorker``).
    """

    def __init__(self, workers: Sequence[Any]):
        self.workers = workers
        self.first = itertools.cycle(range(len(workers)))
        self.score: Batcher[dict[str, Any], dict[str, Any]] = Batcher(self._deal)

    async def _deal(self, calls: Sequence[Call[dict[str, Any], dict[str, Any]]]) -> None:
        hands: dict[int, list[Call[dict[str, Any], dict[str, Any]]]] = {}
        for call in calls:
            hands.setdefault(next(self.first), []).append(call)
        await asyncio.gather(*(self._ask(self.workers[number], hand) for number, hand in hands.items()))

    async def _ask(self, worker: Any, calls: Sequence[Call[dict[str, Any], dict[str, Any]]]) -> None:
        """Of a worker that dies, each rollout without scores is asked for by itself once Ray has started it again: if
        one of them is what it dies of, the others have their scores."""
        try:
            await ask(worker.score_batch, calls, max_task_retries=0)
        except RayActorError:
            await asyncio.gather(*(self._ask_again(worker, call) for call in calls if not call.answer.done()))

    async def _ask_again(self, worker: Any, call: Call[dict[str, Any], dict[str, Any]]) -> None:
        try:
            call.settle(await worker.score.remote(**call.item))
        except Exception as error:
            call.fail(error)
