"""Parts that may die without ending the run: rollout engines with actors of their own, and reward workers.

A request to an engine that died is made again elsewhere (``engine_client``), with the same seed, and the engine is
replaced. Ray starts a reward worker again by itself, and what it was scoring is given to one again (``scoring``). A
dead trainer rank ends the attempt.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import ray
from ray.util.placement_group import remove_placement_group
from verl.checkpoint_engine.base import CheckpointEngineManager
from verl.experimental.reward_loop import RewardLoopManager
from verl.experimental.reward_loop.reward_loop import RewardLoopWorker as VerlRewardLoopWorker
from verl.trainer.ppo.reward import load_reward_manager
from verl.utils import hf_tokenizer
from verl.utils.fs import copy_to_local
from verl.workers.rollout.llm_server import LLMServerManager
from verl.workers.rollout.replica import RolloutReplica

from mrpo.record.busy import BusyTimes, Interval
from mrpo.record.phase import Phase
from mrpo.verl_seam.batched import as_they_end
from mrpo.verl_seam.node_roles import REWARD_NODE, in_turn

START_SECONDS = 600.0
"""In which a replacement must have started. If it hasn't, the run goes on with the engines that are left."""
RELEASE_SECONDS = 30.0
"""In which the devices of a dead engine must be free again, or others be there."""
LOOK_SECONDS = 2.0


class EngineKeeper:
    """Replaces engines that left the routing, and says so by ``note``. Ranks must be idle while it looks."""

    def __init__(self, servers: LLMServerManager, weights: CheckpointEngineManager, note: Callable[[str, str], None]):
        self.servers, self.weights, self.note = servers, weights, note
        self.next_rank = 1 + max(replica.replica_rank for replica in weights.replicas)
        self.looked = time.monotonic()

    def look(self, version: int, at_once: bool = False, only_the_last: bool = False) -> None:
        """Replace what is dead, at most every LOOK_SECONDS. ``version`` is the step that the ranks' weights are of; if
        the others have older ones, ``only_the_last``, which nobody could stand in for, gets them before the rest.

        Raises:
            RuntimeError: no engine is left, and none could be started.
        """
        if not at_once and time.monotonic() - self.looked < LOOK_SECONDS:
            return
        routed = set(ray.get(self.servers.global_load_balancer.get_all_servers.remote()))
        for replica in list(self.weights.replicas) if not (only_the_last and routed) else ():
            if replica._server_address not in routed:
                self._replace(replica, version)
        self.looked = time.monotonic()

    def drop_dead(self) -> None:
        """Take engines whose actors are gone out of the routing, whether or not anybody has asked them since."""
        actors = ray._private.state.actors()
        for replica in self.weights.replicas:
            if any(actors.get(server._actor_id.hex(), {}).get("State") == "DEAD" for server in replica.servers):
                ray.get(self.servers.global_load_balancer.remove_servers.remote([replica._server_address]))

    def _replace(self, dead: RolloutReplica, version: int) -> None:
        began = time.monotonic()
        self.note(Phase.ENGINE_DIED, f"{dead._server_address}, replica {dead.replica_rank}")
        self.weights.remove_replicas([dead])
        for actor in (*dead.servers, *dead.workers):
            ray.kill(actor)
        for group in dead.resource_pool.get_placement_groups():
            remove_placement_group(group)
        try:
            new = asyncio.run(asyncio.wait_for(self._start(dead), START_SECONDS))
        except Exception as error:
            if not self.weights.replicas:
                raise RuntimeError(f"no rollout engine is left, and none could be started: {error}") from error
            self.note(Phase.ENGINE_NOT_REPLACED, f"{type(error).__name__}: {error}")
            return
        CheckpointEngineManager(self.weights.config, self.weights.actor_wg, [new]).update_weights(version)
        self.weights.add_replicas([new])
        ray.get(self.servers.global_load_balancer.add_servers.remote({new._server_address: new._server_handle}))
        self.note(Phase.ENGINE_REPLACED, f"{new._server_address}, after {time.monotonic() - began:.1f} s")

    async def _start(self, dead: RolloutReplica) -> RolloutReplica:
        began = time.monotonic()
        while True:
            try:
                return await self._start_once(dead)
            except ValueError as error:  # Ray gives back the devices of the dead one a little later
                if "available GPUs" not in str(error) or time.monotonic() - began > RELEASE_SECONDS:
                    raise
                await asyncio.sleep(0.5)

    async def _start_once(self, dead: RolloutReplica) -> RolloutReplica:
        rank, self.next_rank = self.next_rank, self.next_rank + 1
        new = type(dead)(
            replica_rank=rank,
            config=self.servers.rollout_config,
            model_config=self.servers.model_config,
            gpus_per_node=self.servers.rollout_config.n_gpus_per_node,
        )
        await new.init_standalone()
        return new


LINGER_SECONDS = 0.005
"""For which a rollout that is scored waits for others: less than a message of its own would cost them all."""


class RewardLoopWorker(VerlRewardLoopWorker):
    """verl's, which can also be asked for the scores of some rollouts without a batch of tensors around them.

    verl's own executes the code of any tokenizer (0.9.1); this one only if ``model.trust_remote_code`` says so.
    """

    def _init_reward_fn(self) -> None:
        model = self.config.actor_rollout_ref.model
        self.input_tokenizer = hf_tokenizer(
            copy_to_local(model.tokenizer_path or model.path), trust_remote_code=model.trust_remote_code
        )
        self.reward_model_tokenizer = None  # reward models are mrpo.verl_seam.reward_models
        self.reward_manager = load_reward_manager(
            self.config, self.input_tokenizer, reward_router_address=self.reward_router_address
        )

    async def score(self, **what: Any) -> Any:
        """The scores of a rollout, or with ``rollouts`` those of a group."""
        of_group = "rollouts" in what
        return await (self.reward_manager.score_group if of_group else self.reward_manager.score)(**what)

    async def take_busy(self) -> list[Interval] | None:
        """When it was at work since the last call; None of a reward manager that doesn't know."""
        busy: BusyTimes | None = getattr(self.reward_manager, "busy", None)
        return None if busy is None else busy.take()

    async def score_batch(self, rollouts: Sequence[dict[str, Any]]) -> AsyncIterator[list[tuple[int, Any]]]:
        """The scores of each, or of each group, as they are there: a slow one keeps none of the others."""
        async for scores in as_they_end([self.score(**what) for what in rollouts], LINGER_SECONDS):
            yield scores


class RestartedRewardWorkers(RewardLoopManager):
    """verl's, on the nodes for rewards in turn, with workers that Ray starts again when they die."""

    def _init_reward_loop_workers(self) -> None:
        worker = ray.remote(max_restarts=-1, max_task_retries=3)(RewardLoopWorker)
        # Ray forgets large arguments that nobody holds, before it restarts
        self.config_reference = ray.put(self.config)
        self.reward_loop_workers = [
            worker.options(name=f"reward_loop_worker_{i}", scheduling_strategy=where).remote(
                self.config_reference, self.reward_router_address
            )
            for i, where in enumerate(in_turn(REWARD_NODE, self.config.reward.num_workers))
        ]
