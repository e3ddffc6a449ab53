"""A prompt's rollouts in two parts: its pilot, and as many more as are decided when all of the step's pilots are there
(``budget.method=pilot_commit``, ``mrpo.budget.pilot``).

A prompt waits between them in the worker that samples it, with the rollouts that it has, so that its group stays one:
of one engine, scored and stored as a whole, and numbered through.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, NamedTuple

from verl.experimental.agent_loop.agent_loop import AgentLoopOutput

from mrpo.budget.pilot import pilot_variance
from mrpo.config.controller import received
from mrpo.verl_seam.agent_loop import SeededAgentLoopWorker, deciding_score


class Waiting(NamedTuple):
    """A prompt between its pilot and the rest."""

    variance: float
    more: asyncio.Future[int]


class PilotWorker(SeededAgentLoopWorker):
    """Samples what a prompt was submitted with, says its variance to whoever asks, and waits for the rest."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        run = received(self.config).run
        assert run.budget.deciding is not None
        _, self.reward = run.budget.deciding
        self.masks_truncated = run.algorithm.truncated == "mask"
        self.waiting: dict[str, Waiting] = {}

    async def _sample(
        self, prompt: dict[str, Any], sampling_params: dict[str, Any], trajectory: dict[str, Any]
    ) -> dict[int, list[AgentLoopOutput]]:
        if trajectory["validate"]:
            return await super()._sample(prompt, sampling_params, trajectory)
        pilot = range(int(prompt.pop("__rollout_n__")))
        held = await self._run_samples(pilot, prompt, sampling_params, trajectory)
        scores = [deciding_score(outputs[-1], self.reward, self.masks_truncated) for outputs in held.values()]
        if more := await self._decided(prompt["uid"], pilot_variance(scores)):
            others = range(len(pilot), len(pilot) + more)
            held |= await self._run_samples(others, prompt, sampling_params, trajectory)
        await self._score_group(held, prompt, validate=False)
        return held

    async def _decided(self, uid: str, variance: float) -> int:
        self.waiting[uid] = Waiting(variance, asyncio.get_running_loop().create_future())
        await self.store.count()
        return await self.waiting[uid].more

    async def pilots(self) -> dict[str, float]:
        """The variance of each pilot that waits, by its prompt's uid."""
        return {uid: waiting.variance for uid, waiting in self.waiting.items()}

    async def commit(self, more: Mapping[str, int]) -> None:
        """Go on with those prompts of ``more`` that wait here, each with so many rollouts."""
        for uid in self.waiting.keys() & more.keys():
            self.waiting.pop(uid).more.set_result(more[uid])
