"""Serve a run's reward models: vLLM engines in Ray actors of their own, behind verl's router, one address a reward.

verl serves one reward model a run. Its replicas take a suffix to their names, so several live side by side.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from omegaconf import DictConfig, OmegaConf
from verl.experimental.reward_loop.router.naive_router import launch_router_process
from verl.utils.config import omega_conf_to_dataclass
from verl.workers.config import HFModelConfig
from verl.workers.rollout.replica import RolloutReplica, get_rollout_replica_class

from mrpo.config.reward_model import RewardModelConfig
from mrpo.config.run import RewardConfig


class RewardModels:
    """The engines of the rewards that have a model. They live as long as this does: Ray ends what nobody holds.

    ``engine`` is verl's ``reward.reward_model.rollout``: what all engines have in common on this device.
    """

    def __init__(self, rewards: Mapping[str, RewardConfig], engine: DictConfig):
        models = {name: reward.model for name, reward in rewards.items() if reward.model}
        self.replicas = {name: _replicas(name, model, engine) for name, model in models.items()}
        self.urls = {name: _route(replicas) for name, replicas in self.replicas.items()}
        """Each model's address, by the reward's name."""


def _replicas(name: str, model: RewardModelConfig, engine: DictConfig) -> list[RolloutReplica]:
    own = {
        "dtype": model.dtype,
        "gpu_memory_utilization": model.gpu_memory_utilization,
        "tensor_model_parallel_size": model.tensor_model_parallel_size,
        "max_model_len": model.max_model_len,
        "max_num_seqs": model.max_num_seqs,
        "max_num_batched_tokens": max(model.max_model_len, engine.max_num_batched_tokens),
    }
    replica_class = get_rollout_replica_class("vllm")
    replicas = [
        replica_class(
            replica_rank=rank,
            config=omega_conf_to_dataclass(OmegaConf.merge(engine, own)),  # type: ignore[arg-type]
            model_config=HFModelConfig(path=model.path, trust_remote_code=model.trust_remote_code),  # type: ignore[arg-type]
            gpus_per_node=model.tensor_model_parallel_size,
            is_reward_model=True,
            name_suffix=name,
        )
        for rank in range(model.replicas)
    ]

    async def start() -> None:
        await asyncio.gather(*(replica.init_standalone() for replica in replicas))

    asyncio.run(start())
    return replicas


def _route(replicas: list[RolloutReplica]) -> str:
    address, _ = launch_router_process(worker_urls=[f"http://{replica._server_address}" for replica in replicas])
    return f"http://{address}"
