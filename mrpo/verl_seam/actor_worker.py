"""A trainer rank: verl's, made fit for the CPU and for models with more logits than tokens. What it leaves and takes is
of its rows' responses (``rank_rows``)."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy
import ray
import torch
from tensordict import TensorDict
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from verl.experimental.separation.engine_workers import DetachActorWorker
from verl.single_controller.base.decorator import Dispatch, make_nd_compute_dataproto_dispatch_fn, register
from verl.utils import tensordict_utils as tu
from verl.utils.device import get_device_name
from verl.utils.distributed import initialize_global_process_group_ray
from verl.utils.fsdp_utils import load_fsdp_model_to_gpu, offload_fsdp_model_to_cpu, offload_fsdp_optimizer
from verl.utils.model import get_hf_auto_model_class

from mrpo.checkpoint.sharded import ShardedState
from mrpo.verl_seam import rank_rows
from mrpo.verl_seam.patches import merged_lora, padded_vocabulary
from mrpo.verl_seam.plugin import require_loaded


class ActorWorker(DetachActorWorker):
    """One FSDP rank of the policy (and of the reference model, where there is one)."""

    @classmethod
    def as_remote(cls) -> Any:
        return ray.remote(cls)

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)  # type: ignore[attr-defined]
    def init_model(self) -> None:
        require_loaded()
        padded_vocabulary.apply()
        if get_device_name() == "cpu":  # verl's default, "cpu:gloo,cpu:gloo", names the device twice and is refused
            initialize_global_process_group_ray(backend="cpu:gloo")
        seed = self.config.actor.data_loader_seed
        _seed(seed)  # an adapter begins with random numbers, the same for all ranks
        super().init_model()
        _seed(seed + self.rank)
        if getattr(self, "actor", None) is not None:  # a reference policy's rank has nothing to save
            engine: Any = self.actor.engine  # type: ignore[union-attr]
            self.sharded = ShardedState(engine.module, engine.optimizer, engine.lr_scheduler)
            merged_lora.apply(engine)

    @register(dispatch_mode=make_nd_compute_dataproto_dispatch_fn(mesh_name="actor"))
    def compute_log_prob(self, data: TensorDict) -> TensorDict | None:
        whose = tu.pop(data, rank_rows.OF_RESPONSES, default=None)
        threshold = tu.pop(data, rank_rows.THRESHOLD, default=None)
        output: TensorDict | None = super().compute_log_prob(data)
        if output is None or whose is None:
            return output
        if whose == rank_rows.REFERENCE:
            return rank_rows.reference_rows(output, data)
        return rank_rows.policy_rows(output, data, threshold)

    @register(dispatch_mode=make_nd_compute_dataproto_dispatch_fn(mesh_name="ref"))
    def compute_ref_log_prob(self, data: TensorDict) -> TensorDict | None:
        whose = tu.pop(data, rank_rows.OF_RESPONSES, default=None)
        output: TensorDict | None = super().compute_ref_log_prob(data)
        return output if output is None or whose is None else rank_rows.reference_rows(output, data)

    @register(dispatch_mode=make_nd_compute_dataproto_dispatch_fn(mesh_name="actor"))
    def update_actor(self, data: TensorDict) -> TensorDict | None:
        if rank_rows.ADVANTAGE in data:
            rank_rows.spread_advantages(data)
        updated: TensorDict | None = super().update_actor(data)
        return updated

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
    def load_model(self, model: str) -> None:
        """Take the weights of a Hugging Face folder, or name on the hub, of this model's architecture.

        Raises:
            RuntimeError: the files lack a weight, or have one of another shape.
        """
        engine: Any = self.actor.engine  # type: ignore[union-attr]
        if engine.is_param_offload_enabled:
            load_fsdp_model_to_gpu(engine.module)
        state = _weights_of(model, engine) if self.rank == 0 else {}
        adapted = hasattr(engine.module, "peft_config")
        if adapted:
            state = merged_lora.names_in(engine.module, state)
            merged_lora.without_effect(engine.module)
        how = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True, strict=not adapted)
        set_model_state_dict(engine.module, state, options=how)
        if engine.is_param_offload_enabled:
            offload_fsdp_model_to_cpu(engine.module)

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)  # type: ignore[attr-defined]
    def save_model_to_cpu(self, n: int) -> None:
        """On the CPU verl's copy is a view of the live weights (``detach().cpu()``), hence the clone."""
        super().save_model_to_cpu(n)
        if get_device_name() == "cpu":
            self.cpu_saved_models[n] = _cloned(self.cpu_saved_models[n])


def _seed(seed: int) -> None:
    random.seed(seed)
    numpy.random.seed(seed)
    torch.manual_seed(seed)


def _weights_of(model: str, engine: Any) -> dict[str, Any]:
    """The whole state of the model in these files, in the precision that the ranks keep."""
    known = engine.model_config
    loaded, report = get_hf_auto_model_class(known.hf_config).from_pretrained(
        model,
        dtype=next(engine.module.parameters()).dtype,
        trust_remote_code=known.trust_remote_code,
        output_loading_info=True,
    )
    # transformers would leave these at random values, with no more than a warning
    wrong = sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]]))
    if wrong:
        raise RuntimeError(f"{model}: {len(wrong)} weights are missing or of another shape: {', '.join(wrong[:5])}")
    return loaded.state_dict()


def _cloned(saved: Any) -> Any:
    if isinstance(saved, torch.Tensor):
        return saved.clone()
    if isinstance(saved, dict):
        return {key: _cloned(value) for key, value in saved.items()}
    if isinstance(saved, list | tuple):
        return type(saved)(_cloned(value) for value in saved)
    return saved
