"""vLLM worker extension for CPU (``rollout.engine_kwargs.vllm.worker_extension_cls``): verl's, on plain weights."""

from __future__ import annotations

from typing import Any

from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension

from mrpo.verl_seam.patches import vllm_plain_cpu_weights


class CpuWorkerExtension(vLLMColocateWorkerExtension):
    """vLLM mixes it into its worker, which is made before the model is loaded."""

    def __new__(cls, **kwargs: Any) -> CpuWorkerExtension:
        vllm_plain_cpu_weights.apply()
        return super().__new__(cls, **kwargs)
