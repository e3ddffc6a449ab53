"""A trainer rank: verl's, made fit for the CPU."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy
import ray
import torch
from verl.experimental.separation.engine_workers import DetachActorWorker
from verl.single_controller.base.decorator import Dispatch, register
from verl.utils.device import get_device_name
from verl.utils.distributed import initialize_global_process_group_ray
from verl.utils.fsdp_utils import load_fsdp_model_to_gpu, offload_fsdp_model_to_cpu, offload_fsdp_optimizer

from mrpo.checkpoint.sharded import ShardedState
from mrpo.verl_seam.plugin import require_loaded


class ActorWorker(DetachActorWorker):
    """One FSDP rank of the policy (and of the reference model, where there is one)."""

    @classmethod
    def as_remote(cls) -> Any:
        return ray.remote(cls)

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)  # type: ignore[attr-defined]
    def init_model(self) -> None:
        require_loaded()
        if get_device_name() == "cpu":  # verl's default, "cpu:gloo,cpu:gloo", names the device twice and is refused
            initialize_global_process_group_ray(backend="cpu:gloo")
        super().init_model()
        seed = self.config.actor.data_loader_seed + self.rank
        random.seed(seed)
        numpy.random.seed(seed)
        torch.manual_seed(seed)
        if getattr(self, "actor", None) is not None:  # a reference policy's rank has nothing to save
            engine: Any = self.actor.engine  # type: ignore[union-attr]
            self.sharded = ShardedState(engine.module, engine.optimizer, engine.lr_scheduler)

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)  # type: ignore[attr-defined]
    def save_state(self, folder: str, asynchronous: bool) -> float:
        """Write this rank's part of weights, optimizer, schedule and random states. Returns the seconds it took from
        training; with ``asynchronous`` the writing goes on, and ``wait_saved`` waits for it."""
        self.saving = self.sharded.save(Path(folder), asynchronous=asynchronous)
        return self.saving.blocked_seconds

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)  # type: ignore[attr-defined]
    def wait_saved(self) -> None:
        self.saving.wait()

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)  # type: ignore[attr-defined]
    def load_state(self, folder: str) -> bool:
        """Take back what ``save_state`` wrote, on this number of ranks. Returns whether it was another number."""
        engine: Any = self.actor.engine  # type: ignore[union-attr]
        if engine.is_param_offload_enabled:  # the optimizer's state is made where the parameters are
            load_fsdp_model_to_gpu(engine.module)
        loaded = self.sharded.load(Path(folder))
        if engine.is_param_offload_enabled:
            offload_fsdp_model_to_cpu(engine.module)
        if engine.is_optimizer_offload_enabled:
            offload_fsdp_optimizer(engine.optimizer)
        return loaded.resharded

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)  # type: ignore[attr-defined]
    def save_model_to_cpu(self, n: int) -> None:
        """On the CPU verl's copy is a view of the live weights (``detach().cpu()``), hence the clone."""
        super().save_model_to_cpu(n)
        if get_device_name() == "cpu":
            self.cpu_saved_models[n] = _cloned(self.cpu_saved_models[n])


def _cloned(saved: Any) -> Any:
    if isinstance(saved, torch.Tensor):
        return saved.clone()
    if isinstance(saved, dict):
        return {key: _cloned(value) for key, value in saved.items()}
    if isinstance(saved, list | tuple):
        return type(saved)(_cloned(value) for value in saved)
    return saved
