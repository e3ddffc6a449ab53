"""How rollouts are asked for: a sampling seed per request, and prompts sampled in rounds.

An agent loop runs each rollout (``agents``); verl's worker is subclassed at the points where a prompt's rollouts are
started, scored (``scoring``) and stored (``row_store``).
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, cast
from uuid import uuid4

import numpy as np
import ray
import torch
from omegaconf import DictConfig
from tensordict import TensorDict
from verl.experimental.agent_loop.agent_loop import AgentLoopOutput
from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopWorkerTQ

from mrpo.budget.ids import as_ids
from mrpo.budget.sequential import Observed, ReinforceAda
from mrpo.config.budget import BudgetConfig
from mrpo.config.controller import received
from mrpo.rewards.wire import (
    INDEX,
    LOSS_LENGTH,
    MESSAGES,
    OUT_OF_ROOM,
    PROMPT_HASH,
    RESPONSE,
    REWARD,
    SEEN,
    TOOL_CALLS,
    TRUNCATED,
    TURNS,
    decode,
)
from mrpo.step.rollouts import RowKey
from mrpo.verl_seam.agents import Agents
from mrpo.verl_seam.engine_client import PersistentClient
from mrpo.verl_seam.finish import ANSWERS, was_truncated
from mrpo.verl_seam.node_roles import TRAINER_NODE, in_turn
from mrpo.verl_seam.row_store import Row, RowStore
from mrpo.verl_seam.scoring import RewardWorkers
from mrpo.verl_seam.text import ResponseDecoder
from mrpo.verl_seam.turns import model_turns, request_seed

logger = logging.getLogger(__name__)

UNREAD = {"agent_name", "dummy_tensor", "extra_info", "index", "interaction_kwargs"}
UNREAD |= {"metrics", "multi_modal_data", "session_id", "tools_kwargs"}
"""What neither verl's trainer nor ours reads of a rollout that is over: every rank would be sent it."""


class SeededAgentLoopWorker(AgentLoopWorkerTQ.__ray_metadata__.modified_class):  # type: ignore[name-defined]
    """Samples each rollout with a seed of (run's seed, step, prompt, sample), so that a run can be repeated, says of
    each output whether it was truncated, and stores the rollouts of a prompt at once, when the last of them is scored.

    verl makes an agent loop from the whole configuration, renders the prompt, asks an engine, sends a batch of tensors
    to a reward worker and stores a row for each rollout: most of what a rollout costs beside the engine. Here
    whatever rollouts ask for at the same time goes in one message (``batched``).
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        rollout = self.config.actor_rollout_ref.rollout  # read once: OmegaConf takes its time
        self.seed, self.max_response, self.max_length = rollout.seed, rollout.response_length, rollout.max_model_len
        ours = received(self.config)
        decoder = ResponseDecoder.of_model(self.tokenizer, ours.run.model.path)
        self.stops, self.agents = decoder.stops, Agents(ours, self, decoder)
        self.reward_workers = RewardWorkers(self.reward_loop_worker_handles or [])
        self.store = RowStore()
        self.scores_groups = any(r.scope == "group" for r in ours.run.rewards.values())

    async def wait_for_end(self, seen: int) -> int:
        """How many prompts of this worker have ended, as soon as it is more than ``seen``."""
        return await self.store.wait_for_end(seen)

    async def _run_prompt(
        self, prompt: dict[str, Any], sampling_params: dict[str, Any], trajectory: dict[str, Any], trace: bool = False
    ) -> None:
        uid, partition = prompt["uid"], "val" if trajectory["validate"] else "train"
        try:
            async with self._one_engine(uid):
                rollouts = await self._sample(prompt, sampling_params, trajectory)
            rows = [row for sample, outputs in rollouts.items() for row in self._rows(uid, sample, outputs, prompt)]
            await self.store.finish(uid, partition, rows)
        except Exception:
            logger.exception("prompt %s failed", uid)
            await self.store.fail(uid, partition)

    def _one_engine(self, uid: str) -> AbstractAsyncContextManager[None]:
        """In which a prompt's rollouts are asked of one engine, where engines have actors of their own."""
        return self.llm_client.prompt(uid) if isinstance(self.llm_client, PersistentClient) else nullcontext()

    async def _sample(
        self, prompt: dict[str, Any], sampling_params: dict[str, Any], trajectory: dict[str, Any]
    ) -> dict[int, list[AgentLoopOutput]]:
        """The scored outputs of each of a prompt's rollouts. Takes out of ``prompt`` how many there are."""
        config = self.config.actor_rollout_ref.rollout
        n = int(prompt.pop("__rollout_n__", config.val_kwargs.n if trajectory["validate"] else config.n))
        rollouts = await self._run_samples(range(n), prompt, sampling_params, trajectory)
        await self._score_group(rollouts, prompt, trajectory["validate"])
        return rollouts

    async def _score_group(
        self, rollouts: dict[int, list[AgentLoopOutput]], prompt: dict[str, Any], validate: bool
    ) -> None:
        """Add the scores of the rewards that look at all of a prompt's rollouts together."""
        groups = list(rollouts.values())
        # A rollout that its agent has scored by itself has no rewards of ours, which the trainer will say.
        if not self.scores_groups or not all(RESPONSE in outputs[-1].extra_fields for outputs in groups):
            return
        scored = [
            self._what(outputs, prompt)
            | {"reward_score": outputs[-1].reward_score}
            | {name: outputs[-1].extra_fields[name] for name in ("reward_extra_info", RESPONSE)}
            for outputs in groups
        ]
        group = {"rollouts": scored, "step": self._step(prompt, validate)}
        found: Any = await self.reward_workers.score(group)
        for outputs, result in zip(rollouts.values(), found, strict=True):
            for output in outputs:
                output.reward_score = result["reward_score"]
                output.extra_fields["reward_extra_info"] = result["reward_extra_info"]

    @staticmethod
    def _what(outputs: Sequence[AgentLoopOutput], prompt: dict[str, Any]) -> dict[str, Any]:
        """What rewards are told of a rollout, besides the step: its last turn, and what is known of the others."""
        final = outputs[-1]
        what = {name: prompt.get(name) for name in ("raw_prompt", "reward_model", "data_source", "extra_info")}
        turns = [turn for output in outputs for turn in model_turns(output.response_ids, output.response_mask)]
        written = model_turns(final.response_ids, final.response_mask)
        what |= {"response_ids": written[-1] if written else [], "truncated": final.extra_fields[TRUNCATED]}
        what |= {"response_tokens": sum(map(len, turns)), "turns": len(turns)}
        return what | {name: final.extra_fields.get(name) for name in (MESSAGES, TOOL_CALLS)}

    @staticmethod
    def _step(prompt: dict[str, Any], validate: bool) -> int | None:
        """The training step that a rollout is for; a validation's is for none."""
        return None if validate else int(prompt["global_steps"])

    async def _run_samples(
        self,
        samples: Sequence[int],
        prompt: dict[str, Any],
        sampling_params: dict[str, Any],
        trajectory: dict[str, Any],
    ) -> dict[int, list[AgentLoopOutput]]:
        runs = [
            self._run_agent_loop(sampling_params, trajectory=trajectory, session_id=sample, **prompt)
            for sample in samples
        ]
        # all of them end before one's error counts: none may go on when its prompt is given up
        ended = await asyncio.gather(*runs, return_exceptions=True)
        if errors := [result for result in ended if isinstance(result, BaseException)]:
            raise RuntimeError(f"{len(errors)} of {len(ended)} rollouts failed") from errors[0]
        return dict(zip(samples, cast(list[list[AgentLoopOutput]], ended), strict=True))

    async def _run_agent_loop(
        self,
        sampling_params: dict[str, Any],
        *,
        trajectory: dict[str, Any],
        agent_name: str | None,
        session_id: int,
        **prompt: Any,
    ) -> list[AgentLoopOutput]:
        # A validation prompt has a random uid, and greedy sampling by default; its index in the data set identifies it.
        who = trajectory["sample_index"] if trajectory["validate"] else prompt["uid"]
        seed = request_seed(self.seed, trajectory["step"], trajectory["validate"], who, session_id)
        sampling_params = {**sampling_params, "seed": seed, "detokenize": False}  # rewards have their own decoder
        prompt["session_id"] = session_id
        ANSWERS.set([])  # of this rollout: each has a task, and so a context, of its own
        outputs = await self.agents.run(agent_name, sampling_params, prompt)
        return await self._agent_loop_postprocess(outputs, trajectory["validate"], **prompt)

    async def _agent_loop_postprocess(
        self, output: AgentLoopOutput | list[AgentLoopOutput], validate: bool, **prompt: Any
    ) -> list[AgentLoopOutput]:
        """A rollout's outputs, scored; all of them have the score of the last."""
        outputs = output if isinstance(output, list) else [output]
        if not outputs:
            raise RuntimeError(f"the agent loop of prompt {prompt['uid']} has left nothing")
        await self._compute_score(outputs, kwargs={**prompt, "step": self._step(prompt, validate)})
        final = outputs[-1]
        tokens = {"prompt_ids": final.prompt_ids, "response_ids": final.response_ids}
        await self._compute_teacher_logprobs(final, **tokens, validate=validate, sample_kwargs=prompt)
        for earlier in outputs[:-1] if final.reward_score is not None else ():
            earlier.reward_score = final.reward_score
            earlier.extra_fields["reward_extra_info"] = final.extra_fields["reward_extra_info"]
        return outputs

    async def _compute_score(self, outputs: list[AgentLoopOutput], kwargs: dict[str, Any]) -> None:
        final = outputs[-1]
        for output in outputs:
            room = min(self.max_response, self.max_length - len(output.prompt_ids))
            answers = ANSWERS.get() or ()
            reached = was_truncated(output.response_ids, output.response_mask, answers, room, self.stops)
            output.extra_fields[TRUNCATED] = reached or output.extra_fields.pop(OUT_OF_ROOM, False)
        if final.reward_score is not None or not self.reward_loop_worker_handles:
            return
        started = time.perf_counter()
        result = await self.reward_workers.score(self._what(outputs, kwargs) | {"step": kwargs["step"]})
        final.reward_score = result["reward_score"]
        final.extra_fields |= {name: result[name] for name in ("reward_extra_info", RESPONSE)}
        final.metrics.compute_score = time.perf_counter() - started

    def _rows(self, uid: str, sample: int, outputs: Sequence[AgentLoopOutput], prompt: dict[str, Any]) -> Iterator[Row]:
        """The row of each output, as verl's trainer reads them."""
        for turn, output in enumerate(outputs):
            fields = {name: v for name, v in {**output.as_dict(), **prompt}.items() if name not in UNREAD}
            ids = torch.cat([fields["prompts"], fields["responses"]])
            media = self._compute_multi_modal_inputs(output, ids)
            mask = torch.ones_like(ids)
            positions = self._compute_position_ids(ids.unsqueeze(0), mask.unsqueeze(0), media).squeeze(0)
            fields |= {"loss_mask": fields["response_mask"], "input_ids": ids, "position_ids": positions}
            fields["multi_modal_inputs"] = media
            lengths = len(fields["prompts"]), len(fields["responses"])
            versions = {name: output.extra_fields.get(name) for name in ("min_global_steps", "max_global_steps")}
            tag: dict[str, Any] = {"status": "success"}
            tag |= {"prompt_len": lengths[0], "response_len": lengths[1], "seq_len": sum(lengths)}
            tag |= {"global_steps": prompt["global_steps"], **versions}
            prompt_hash = hashlib.blake2b(fields["prompts"].numpy().tobytes(), digest_size=8).hexdigest()
            tag |= {LOSS_LENGTH: sum(output.response_mask), PROMPT_HASH: prompt_hash, TURNS: output.num_turns}
            tag[INDEX] = int(prompt.get("index", -1))
            if output.reward_score is not None:
                tag[REWARD] = output.reward_score
            yield Row(str(RowKey(uid, sample, turn)), fields, tag)


class RoundsWorker(SeededAgentLoopWorker):
    """Samples a prompt in rounds (``budget.rounds``); the selected rollouts each carry what all have earned."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        rounds = received(self.config).run.budget.rounds
        assert rounds is not None
        self.rounds = rounds
        self.masks_truncated = received(self.config).run.algorithm.truncated == "mask"

    async def _sample(
        self, prompt: dict[str, Any], sampling_params: dict[str, Any], trajectory: dict[str, Any]
    ) -> dict[int, list[AgentLoopOutput]]:
        if trajectory["validate"]:
            return await super()._sample(prompt, sampling_params, trajectory)
        sampler = ReinforceAda([0], int(prompt.pop("__rollout_n__")), self.rounds)
        held: dict[int, list[AgentLoopOutput]] = {}
        while n := int(sampler.next_round(self._observed(held))[0]):
            samples = range(len(held), len(held) + n)
            held |= await self._run_samples(samples, prompt, sampling_params, trajectory)
            if self._unscored(held):  # the deciding reward has nothing to say about this prompt; others may have
                break
        await self._score_group(held, prompt, validate=False)
        seen = [
            {
                "sample": sample,
                "components": decode(outputs[-1].extra_fields["reward_extra_info"]),
                "length": sum(sum(output.response_mask) for output in outputs),
                "truncated": outputs[-1].extra_fields[TRUNCATED],
            }
            for sample, outputs in held.items()
        ]
        unscored = self._unscored(held)
        chosen = list(held)[: self.rounds.keep] if unscored else sampler.select(self._observed(held)).tolist()
        selected = {sample: held[sample] for sample in chosen}
        for outputs in selected.values():
            for output in outputs:
                output.extra_fields[SEEN] = seen
        return selected

    def _observed(self, held: dict[int, list[AgentLoopOutput]]) -> Observed:
        last = [outputs[-1] for outputs in held.values()]
        scores = [deciding_score(output, self.rounds.reward, self.masks_truncated) for output in last]
        return Observed(np.array(list(held), dtype=np.int64), as_ids([0] * len(held)), np.array(scores, dtype=float))

    def _unscored(self, held: dict[int, list[AgentLoopOutput]]) -> bool:
        return bool(np.isnan(self._observed(held).reward_N).all())


def deciding_score(output: AgentLoopOutput, reward: str, masks_truncated: bool) -> float:
    """What a rollout has earned of ``reward``, or of all together (``total``), where that decides who gets more; NaN:
    nothing that counts."""
    if masks_truncated and output.extra_fields[TRUNCATED]:
        return float("nan")  # no loss has it, so it is neither of those that a prompt needs
    scores = decode(output.extra_fields["reward_extra_info"])
    if reward == "total":
        if not any(isinstance(score, int | float) for score in scores.values()):  # texts: failures, details
            return float("nan")
        assert output.reward_score is not None
        return float(output.reward_score)
    value = scores[reward]
    return float("nan") if value is None else float(value)


def worker_class(budget: BudgetConfig) -> type[SeededAgentLoopWorker]:
    """The worker that samples as ``budget`` says."""
    from mrpo.verl_seam.pilot_worker import PilotWorker  # which subclasses what this module defines

    if budget.has_pilot:
        return PilotWorker
    return SeededAgentLoopWorker if budget.rounds is None else RoundsWorker


class AgentLoops:
    """Named in ``rollout.agent.agent_loop_manager_class``: hands prompts to agent workers.

    The workers are on the trainer's nodes, which a run can't do without any of; verl's own manager would spread them
    over all. They put what they get into TransferQueue, so nothing is waited for here.
    """

    def __init__(self, config: DictConfig, llm_client: Any, teacher_client: Any, reward_loop_worker_handles: Any):
        worker = ray.remote(worker_class(received(config).run.budget))
        places = in_turn(TRAINER_NODE, config.actor_rollout_ref.rollout.agent.num_workers)
        self.workers: list[Any] = [
            worker.options(name=f"agent_loop_worker_{i}_{uuid4().hex[:8]}", scheduling_strategy=place).remote(
                config, llm_client, teacher_client, reward_loop_worker_handles
            )
            for i, place in enumerate(places)
        ]
        self.ended = [0] * len(self.workers)
        self.next_ends: dict[Any, int] = {}
        """What each worker was asked to say, by the number of the worker."""

    @classmethod
    def create(cls, **given: Any) -> AgentLoops:
        return cls(**given)

    def generate_sequences(self, prompts: TensorDict) -> None:
        """Start the rollouts of ``prompts``; returns when the workers have taken them."""
        parts = prompts.chunk(len(self.workers))  # fewer than workers, where there are fewer prompts
        ray.get([w.generate_sequences.remote(part) for w, part in zip(self.workers, parts, strict=False)])

    def pilots(self) -> dict[str, float]:
        """The variance of each pilot that waits for a decision, by its prompt's uid (``pilot_worker``)."""
        of_workers: list[dict[str, float]] = ray.get([worker.pilots.remote() for worker in self.workers])
        return {uid: variance for of_worker in of_workers for uid, variance in of_worker.items()}

    def commit(self, more: Mapping[str, int]) -> None:
        """Go on with the prompts that wait, each with so many rollouts."""
        ray.get([worker.commit.remote(dict(more)) for worker in self.workers])

    def wait_for_end(self, seconds: float) -> int:
        """Until a prompt has ended since the last call, or waits for a decision, at most ``seconds``. Returns how many
        have.

        Raises:
            RayActorError: a worker has died, and with it what it was sampling.
        """
        for number in set(range(len(self.workers))).difference(self.next_ends.values()):
            self.next_ends[self.workers[number].wait_for_end.remote(self.ended[number])] = number
        ready, _ = ray.wait(list(self.next_ends), timeout=seconds)
        before = sum(self.ended)
        for reference in ready:
            self.ended[self.next_ends.pop(reference)] = ray.get(reference)
        return sum(self.ended) - before
