"""A reward's own model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from mrpo.config.base import StrictModel


class RewardModelConfig(StrictModel):
    """A model that a run serves by vLLM, in actors of its own, for one reward."""

    RENAMED: ClassVar[Mapping[str, str]] = {
        "tensor_parallel": "tensor_model_parallel_size",
        "memory_share": "gpu_memory_utilization",
        "max_tokens": "max_model_len",
        "max_sequences": "max_num_seqs",
    }

    path: str
    """A Hugging Face folder, or a name on the hub."""
    replicas: int = Field(default=1, ge=1)
    """Engines that serve it."""
    tensor_model_parallel_size: int = Field(default=1, ge=1)
    """Devices per engine."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Precision."""
    gpu_memory_utilization: float = Field(default=0.5, gt=0, lt=1)
    """GPU: share of a device's memory that an engine may take."""
    max_model_len: int = Field(default=4096, ge=1)
    """Longest conversation, in its own tokens. A longer one is a failed score."""
    max_num_seqs: int = Field(default=256, ge=1)
    """Conversations that an engine works on at once."""
    trust_remote_code: bool = False
    """Execute the Python files that come with the model. See ``model.trust_remote_code``."""
