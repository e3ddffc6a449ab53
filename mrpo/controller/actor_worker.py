"""A trainer rank: verl's, made fit for the CPU."""

from __future__ import annotations

from typing import Any

import ray
import torch
from verl.experimental.separation.engine_workers import DetachActorWorker
from verl.single_controller.base.decorator import Dispatch, register
from verl.utils.device import get_device_name
from verl.utils.distributed import initialize_global_process_group_ray

from mrpo.runtime.plugin import require_loaded


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
