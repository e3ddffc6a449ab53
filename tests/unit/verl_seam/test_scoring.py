"""Rollouts are dealt out to the reward workers, and none loses its scores because another's worker died."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from ray.exceptions import RayActorError

from mrpo.verl_seam.scoring import RewardWorkers

pytestmark = pytest.mark.unit


class Method:
    def __init__(self, method: Any):
        self.remote = method

    def options(self, **_: Any) -> Method:
        return self


class FaultyWorker:
    """Dies of a batch in which ``deadly`` is, after it has answered what comes before; of ``deadly`` alone as well."""

    def __init__(self, deadly: int | None = None):
        self.deadly, self.batches, self.alone = deadly, list[list[int]](), list[int]()
        self.score_batch, self.score = Method(self._score_batch), Method(self._score)

    async def _score_batch(self, rollouts: Sequence[dict[str, int]]) -> AsyncIterator[Any]:
        numbers = [rollout["number"] for rollout in rollouts]
        self.batches.append(numbers)
        for place, number in enumerate(numbers):
            if number == self.deadly:
                raise RayActorError
            answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            answer.set_result([(place, {"reward_score": number})])
            yield answer

    async def _score(self, number: int) -> dict[str, int]:
        self.alone.append(number)
        if number == self.deadly:
            raise RayActorError
        return {"reward_score": number}


async def score_all(workers: RewardWorkers, count: int) -> list[Any]:
    return await asyncio.gather(*(workers.score({"number": i}) for i in range(count)), return_exceptions=True)


def test_rollouts_that_end_together_go_to_each_worker_in_one_message() -> None:
    workers = [FaultyWorker(), FaultyWorker()]
    scores = asyncio.run(score_all(RewardWorkers(workers), 5))
    assert [score["reward_score"] for score in scores] == [0, 1, 2, 3, 4]
    assert [worker.batches for worker in workers] == [[[0, 2, 4]], [[1, 3]]]


def test_the_next_in_turn_is_asked_first_when_rollouts_end_one_by_one() -> None:
    workers = [FaultyWorker(), FaultyWorker()]

    async def one_by_one() -> None:
        asked = RewardWorkers(workers)
        for i in range(4):
            await asked.score({"number": i})

    asyncio.run(one_by_one())
    assert [worker.batches for worker in workers] == [[[0], [2]], [[1], [3]]]


def test_a_rollout_that_kills_its_worker_costs_the_others_nothing() -> None:
    worker = FaultyWorker(deadly=1)
    scores = asyncio.run(score_all(RewardWorkers([worker]), 4))
    assert isinstance(scores.pop(1), RayActorError)
    assert [score["reward_score"] for score in scores] == [0, 2, 3]
    assert sorted(worker.alone) == [1, 2, 3]  # what it had answered isn't asked again
