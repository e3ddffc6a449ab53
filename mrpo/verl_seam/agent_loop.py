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
from omegaconf import DictConfig
from tensordict import TensorDict
from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopWorkerTQ

from mrpo.budget.ids import as_ids
from mrpo.budget.sequential import Observed, ReinforceAda
from mrpo.config.controller import received
from mrpo.rewards.wire import FAILURES, SEEN, decode
from mrpo.verl_seam.node_roles import TRAINER_NODE, in_turn

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

    Owner of ``held``: the outputs of prompts whose sampling isn't over, by uid and sample.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        rounds = received(self.config).run.budget.rounds
        assert rounds is not None
        self.rounds = rounds
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
        sampler = ReinforceAda([0], size, self.rounds)
        while n := int(sampler.next_round(self._observed(held))[0]):
            samples = [
                self._run_agent_loop(sampling_params, trajectory=trajectory, trace=trace, session_id=i, **prompt)
                for i in range(len(held), len(held) + n)
            ]
            await asyncio.gather(*samples)
            if self._unscored(held):  # the deciding reward has nothing to say about this prompt; others may have
                break
        seen = [
            {
                "sample": sample,
                "components": decode(outputs[-1].extra_fields["reward_extra_info"]),
                "length": sum(outputs[-1].response_mask),
            }
            for sample, (outputs, _) in sorted(held.items())
        ]
        unscored = self._unscored(held)
        selected = sorted(held)[: self.rounds.keep] if unscored else sampler.select(self._observed(held)).tolist()
        for sample in selected:
            outputs, kwargs = held[sample]
            for output in outputs:
                output.extra_fields[SEEN] = seen
            await super()._agent_loop_postprocess(outputs, False, **kwargs)

    def _observed(self, held: dict[int, tuple[list[Any], dict[str, Any]]]) -> Observed:
        # By sample: ``held`` is in the order in which rollouts finished, and which are selected must not depend on it.
        samples = sorted(held)
        scores = [self._score(held[sample][0][-1]) for sample in samples]
        return Observed(np.array(samples, dtype=np.int64), as_ids([0] * len(held)), np.array(scores, dtype=float))

    def _unscored(self, held: dict[int, tuple[list[Any], dict[str, Any]]]) -> bool:
        return bool(np.isnan(self._observed(held).reward_N).all())

    def _score(self, output: Any) -> float:
        scores = decode(output.extra_fields["reward_extra_info"])
        if self.rounds.reward == "total":
            there = any(score is not None for name, score in scores.items() if name != FAILURES)
            return float(output.reward_score) if there else float("nan")
        value = scores[self.rounds.reward]
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


class AgentLoops:
    """Named in ``rollout.agent.agent_loop_manager_class``: hands prompts to agent workers.

    The workers are on the trainer's nodes, which a run can't do without any of; verl's own manager would spread them
    over all. They put what they get into TransferQueue, so nothing is waited for here.
    """

    def __init__(self, config: DictConfig, llm_client: Any, teacher_client: Any, reward_loop_worker_handles: Any):
        in_rounds = received(config).run.budget.rounds is not None
        worker = ray.remote(RoundsWorker if in_rounds else SeededAgentLoopWorker)
        places = in_turn(TRAINER_NODE, config.actor_rollout_ref.rollout.agent.num_workers)
        self.workers = [
            worker.options(name=f"agent_loop_worker_{i}_{uuid4().hex[:8]}", scheduling_strategy=place).remote(
                config, llm_client, teacher_client, reward_loop_worker_handles
            )
            for i, place in enumerate(places)
        ]

    @classmethod
    def create(cls, **given: Any) -> AgentLoops:
        return cls(**given)

    def generate_sequences(self, prompts: TensorDict) -> None:
        """Start the rollouts of ``prompts``; returns when the workers have taken them."""
        parts = prompts.chunk(len(self.workers))  # fewer than workers, where there are fewer prompts
        ray.get([w.generate_sequences.remote(part) for w, part in zip(self.workers, parts, strict=False)])
