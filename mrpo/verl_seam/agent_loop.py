"""How rollouts are asked for: a sampling seed per request, and prompts sampled in rounds.

verl's own agent loop runs each rollout and scores it; its worker is subclassed at the points where a prompt's rollouts
are started and where a rollout's outputs are stored.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from typing import Any
from uuid import uuid4

import numpy as np
import ray
import transfer_queue as tq
from omegaconf import OmegaConf
from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopManagerTQ, AgentLoopWorkerTQ

from mrpo.budget.ids import as_ids
from mrpo.budget.sequential import Observed, ReinforceAda
from mrpo.config.budget import RoundsConfig
from mrpo.step.rollouts import SEEN
from mrpo.verl_seam.node_roles import TRAINER, in_turn

logger = logging.getLogger(__name__)


def request_seed(*identity: Any) -> int:
    """A sampling seed in [0, 2**31) that follows from what a request is for, not from when it is made."""
    digest = hashlib.blake2b("/".join(map(str, identity)).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little") & 0x7FFFFFFF


class SeededAgentLoopWorker(AgentLoopWorkerTQ.__ray_metadata__.modified_class):  # type: ignore[name-defined]
    """Samples each rollout with a seed of (run's seed, step, prompt, sample), so that a run can be repeated."""

    async def _run_agent_loop(
        self, sampling_params: dict[str, Any], *, trajectory: dict[str, Any], session_id: int = 0, **prompt: Any
    ) -> Any:
        base = self.config.actor_rollout_ref.rollout.seed
        # A validation prompt has a random uid, and greedy sampling by default; its index in the data set identifies it.
        who = trajectory["sample_index"] if trajectory["validate"] else prompt["uid"]
        seed = request_seed(base, trajectory["step"], trajectory["validate"], who, session_id)
        return await super()._run_agent_loop(
            {**sampling_params, "seed": seed}, trajectory=trajectory, session_id=session_id, **prompt
        )


class RoundsWorker(SeededAgentLoopWorker):
    """Samples a prompt in rounds (``budget.rounds``) and stores the selected rollouts, each with what all have earned.

    Owner of ``held``: the outputs of prompts whose sampling isn't over, by uid and session.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.rounds = RoundsConfig.model_validate(OmegaConf.to_container(self.config.mrpo.run.budget.rounds))
        self.held: dict[str, dict[int, tuple[list[Any], dict[str, Any]]]] = {}

    async def _run_prompt(
        self, prompt: dict[str, Any], sampling_params: dict[str, Any], trajectory: dict[str, Any], trace: bool = False
    ) -> None:
        if trajectory["validate"]:
            await super()._run_prompt(prompt, sampling_params, trajectory, trace)
            return
        uid, size = prompt["uid"], int(prompt.pop("__rollout_n__"))
        await tq.async_kv_put(key=uid, partition_id="train", tag={"status": "running"})
        self.held[uid] = {}
        try:
            await self._sample_rounds(uid, size, prompt, sampling_params, trajectory, trace)
            status = "finished"
        except Exception:
            logger.exception("prompt %s failed", uid)
            status = "failure"
        finally:
            del self.held[uid]
        await tq.async_kv_put(key=uid, partition_id="train", tag={"status": status})

    async def _sample_rounds(self, uid: str, size: int, prompt: dict[str, Any], *how: Any) -> None:
        sampling_params, trajectory, trace = how
        held = self.held[uid]
        sampler = ReinforceAda([0], size, self.rounds.most, self.rounds.keep, self.rounds.stop)
        while n := int(sampler.next_round(self._observed(held))[0]):
            sessions = [
                self._run_agent_loop(sampling_params, trajectory=trajectory, trace=trace, session_id=i, **prompt)
                for i in range(len(held), len(held) + n)
            ]
            await asyncio.gather(*sessions)
        seen = [
            {
                "session": session,
                "components": outputs[-1].extra_fields["reward_extra_info"],
                "length": sum(outputs[-1].response_mask),
            }
            for session, (outputs, _) in sorted(held.items())
        ]
        for session in sampler.select(self._observed(held)).tolist():
            outputs, kwargs = held[session]
            for output in outputs:
                output.extra_fields[SEEN] = seen
            await super()._agent_loop_postprocess(outputs, False, **kwargs)

    def _observed(self, held: dict[int, tuple[list[Any], dict[str, Any]]]) -> Observed:
        margins = [self._score(outputs[-1]) - self.rounds.threshold for outputs, _ in held.values()]
        return Observed(np.array(list(held), dtype=np.int64), as_ids([0] * len(held)), np.array(margins, dtype=float))

    def _score(self, output: Any) -> float:
        if self.rounds.reward == "total":
            return float(output.reward_score)
        value = output.extra_fields["reward_extra_info"][self.rounds.reward]
        return float("nan") if value is None else float(value)

    async def _agent_loop_postprocess(self, output: Any, validate: bool, **kwargs: Any) -> None:
        """Score now, store when the prompt's sampling is over (verl doesn't score a second time)."""
        held = None if validate else self.held.get(kwargs["uid"])
        if held is None:
            await super()._agent_loop_postprocess(output, validate, **kwargs)
            return
        outputs = output if isinstance(output, list) else [output]
        await self._compute_score(outputs, kwargs=kwargs)
        held[kwargs["session_id"]] = (outputs, kwargs)


class SeededAgentLoopManager(AgentLoopManagerTQ):
    """Named in ``rollout.agent.agent_loop_manager_class``."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        in_rounds = self.config.mrpo.run.budget.rounds is not None
        self.agent_loop_workers_class = ray.remote(RoundsWorker if in_rounds else SeededAgentLoopWorker)

    async def _init_agent_loop_workers(self) -> None:
        """As verl's, but on the trainer's nodes: a run can't do without any of them."""
        self.agent_loop_workers = [
            self.agent_loop_workers_class.options(
                name=f"agent_loop_worker_{i}_{uuid4().hex[:8]}", scheduling_strategy=where
            ).remote(self.config, self.llm_client, self.teacher_client, self.reward_loop_worker_handles)
            for i, where in enumerate(in_turn(TRAINER, self.rollout_config.agent.num_workers))
        ]
