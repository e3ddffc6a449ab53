"""verl's FSDP engine on the CPU: the same engine, registered for the device ``cpu``.

Imported in every trainer rank through verl's ``actor_rollout_ref.model.external_lib``.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from verl.workers.engine.base import EngineRegistry
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead


@EngineRegistry.register(model_type="language_model", backend=["fsdp", "fsdp2"], device="cpu")
class CpuFSDPEngine(FSDPEngineWithLMHead):
    """Parameters live on the CPU already, so nothing is offloaded to it.

    verl gives a forward-only (reference) model ``CPUOffloadPolicy(pin_memory=True)``, which needs an accelerator.
    """

    def _build_fsdp_module(self, module: torch.nn.Module) -> torch.nn.Module:
        given = self.engine_config
        self._is_offload_param = self._is_offload_optimizer = False
        self.engine_config = replace(given, forward_only=False, offload_policy=False)
        try:
            return super()._build_fsdp_module(module)
        finally:
            self.engine_config = given
