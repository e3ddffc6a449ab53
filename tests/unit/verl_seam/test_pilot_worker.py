"""A prompt's group is one, though it waits between its pilot and the rest until all others' pilots are there."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from mrpo.config.allocators import PilotCommitBudget
from mrpo.config.budget import BudgetConfig, RoundsConfig
from mrpo.rewards.outcome import Outcome
from mrpo.rewards.wire import TRUNCATED, encode
from mrpo.verl_seam.agent_loop import RoundsWorker, SeededAgentLoopWorker, worker_class
from mrpo.verl_seam.pilot_worker import PilotWorker
from mrpo.verl_seam.row_store import RowStore

pytestmark = pytest.mark.unit


class Output:
    """Of a rollout: what it has earned, and whether it is truncated."""

    def __init__(self, sample: int, score: float | None, truncated: bool = False):
        outcome = Outcome() if score is None else Outcome(score)
        self.sample, self.reward_score = sample, score or 0.0
        self.extra_fields = {"reward_extra_info": encode({"correct": outcome}), TRUNCATED: truncated}


class WithoutEngines(PilotWorker):
    """Says of each sample what ``earns`` does; the group's scoring and whatever is before it are not there."""

    def __init__(self, earns: dict[str, list[float | None]], masks_truncated: bool = False, reward: str = "total"):
        self.earns, self.reward, self.masks_truncated = earns, reward, masks_truncated
        self.waiting, self.store = {}, RowStore()
        self.sampled: list[tuple[str, list[int]]] = []
        self.scored: list[int] = []

    async def _run_samples(self, samples: Sequence[int], prompt: Any, *_: Any) -> Any:
        self.sampled.append((prompt["uid"], list(samples)))
        scores = self.earns[prompt["uid"]]
        return {i: [Output(i, scores[i % len(scores)], truncated=i == 0)] for i in samples}

    async def _score_group(self, rollouts: Any, prompt: Any, validate: bool) -> None:
        self.scored.append(len(rollouts))


async def gone_on_with(worker: WithoutEngines, more: dict[str, int], pilot: int = 2) -> tuple[dict[str, float], Any]:
    """The variances when all pilots are there, and then the samples of each prompt."""
    prompts = [{"uid": uid, "__rollout_n__": pilot} for uid in worker.earns]
    tasks = [asyncio.ensure_future(worker._sample(prompt, {}, {"validate": False})) for prompt in prompts]
    seen = 0
    while seen < len(prompts):
        seen = await worker.store.wait_for_end(seen)
    told = await worker.pilots()
    assert not any(task.done() for task in tasks)
    await worker.commit(more)
    return told, [list(group) for group in await asyncio.gather(*tasks)]


def test_prompts_wait_for_each_other_and_go_on_with_as_many_more_as_are_decided() -> None:
    worker = WithoutEngines({"a": [0.0, 1.0], "b": [1.0]})
    told, groups = asyncio.run(gone_on_with(worker, {"a": 3, "b": 0, "elsewhere": 9}))
    assert told == {"a": 0.5, "b": 0.0}
    assert groups == [[0, 1, 2, 3, 4], [0, 1]]
    assert worker.sampled == [("a", [0, 1]), ("b", [0, 1]), ("a", [2, 3, 4])]
    assert sorted(worker.scored) == [2, 5]  # rewards of a whole group see all of it
    assert worker.waiting == {}


@pytest.mark.parametrize("reward", ["total", "correct"])
def test_what_is_masked_or_was_not_scored_says_nothing(reward: str) -> None:
    worker = WithoutEngines({"a": [0.0, 1.0, 0.0], "b": [0.0, None, 1.0]}, masks_truncated=True, reward=reward)
    told, _ = asyncio.run(gone_on_with(worker, {"a": 0, "b": 0}, pilot=3))
    assert told["a"] == 0.5  # of samples 1 and 2
    assert told["b"] != told["b"]


def test_a_validation_waits_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    async def plain(self: Any, prompt: Any, *_: Any) -> Any:
        return {0: [prompt["uid"]]}

    monkeypatch.setattr(SeededAgentLoopWorker, "_sample", plain)
    worker = WithoutEngines({})
    assert asyncio.run(worker._sample({"uid": "v"}, {}, {"validate": True})) == {0: ["v"]}


def test_each_budget_has_its_worker() -> None:
    assert worker_class(PilotCommitBudget()) is PilotWorker
    assert worker_class(BudgetConfig(rounds=RoundsConfig())) is RoundsWorker
    assert worker_class(BudgetConfig()) is SeededAgentLoopWorker
