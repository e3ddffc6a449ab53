"""How rollouts are sampled: the engines, and what they do while the ranks train."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from mrpo.config.agent import AgentConfig
from mrpo.config.base import StrictModel
from mrpo.errors import ConfigError

MOST_AHEAD = 8
"""Older rollouts than this teach little: their weights are from another policy."""


class ValidationSampling(StrictModel):
    """How validation and ``mrpo evaluate`` sample. The default is one greedy response to each prompt."""

    WITHOUT_EFFECT: ClassVar = {"top_p": ("temperature", (0.0,)), "top_k": ("temperature", (0.0,))}

    n: int = Field(default=1, ge=1)
    """Responses to each prompt. With several, ``mrpo evaluate`` shows pass@k."""
    temperature: float = Field(default=0.0, ge=0)
    """Sampling temperature; 0 takes the likeliest token each time."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus sampling."""
    top_k: int = Field(default=-1, ge=-1)
    """Sample among the k likeliest tokens; -1: among all."""

    @model_validator(mode="after")
    def _samples_differ(self) -> ValidationSampling:
        if self.n > 1 and self.temperature == 0:
            raise ConfigError(
                f"rollout.val_kwargs.n: given {self.n} with temperature 0, allowed: 1, or a temperature above 0. "
                "Greedy responses to a prompt are all the same."
            )
        return self


class RolloutConfig(StrictModel):
    """The vLLM engines."""

    RENAMED: ClassVar[Mapping[str, str]] = {
        "tensor_parallel": "tensor_model_parallel_size",
        "memory_share": "gpu_memory_utilization",
        "max_sequences": "max_num_seqs",
        "max_batched_tokens": "max_num_batched_tokens",
        "eager": "enforce_eager",
    }
    WITHOUT_EFFECT: ClassVar = {
        "replicas": ("placement", ("colocated",)),
        "nnodes": ("placement", ("colocated",)),
        "on_sync": ("ahead", (0,)),
    }
    OF_VERL: ClassVar = "actor_rollout_ref.rollout"

    placement: Literal["separate", "colocated"] = "separate"
    """Engines in actors of their own, apart from the trainer ranks, or on the trainer ranks' devices in turn."""
    ahead: int = Field(default=0, ge=0, le=MOST_AHEAD)
    """Separate placement: how many steps' prompts are sampled before their step, while the ranks train on an earlier
    one. 0: on policy, engines and ranks take turns. With 1 every rollout is of weights that are one step older than
    those that learn from it; see ``algorithm.off_policy``."""
    on_sync: Literal["finish", "continue"] = "finish"
    """With ``ahead``: what becomes of rollouts that are under way when a step has new weights. finish: the weights wait
    until they are complete, so that each rollout is of one version. continue: the weights go out at once, and a rollout
    goes on by them where it was, so that it may be of several versions; a run can't be repeated bit by bit then."""
    replicas: int = Field(default=1, ge=1)
    """Separate placement: engines on each of ``nnodes`` nodes."""
    nnodes: int = Field(default=1, ge=1)
    """Separate placement: nodes that hold engines."""
    tensor_model_parallel_size: int = Field(default=1, ge=1)
    """Devices per engine."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Precision of the engines."""
    temperature: float = Field(default=1.0, gt=0)
    """Sampling temperature in training."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus sampling in training; below 1 the trainer's and the engine's probabilities differ."""
    gpu_memory_utilization: float = Field(default=0.5, gt=0, lt=1)
    """GPU: share of a device's memory that an engine may take."""
    max_num_seqs: int = Field(default=256, ge=1)
    """Sequences that an engine works on at once."""
    max_num_batched_tokens: int = Field(default=8192, ge=1)
    """Tokens that an engine works on at once."""
    cpu_threads: int | None = Field(default=None, ge=1)
    """CPU: threads of an engine. Unset: the machine's cores, divided by the engines on it. A model so small that its
    engine waits for its threads is quicker with 1, which leaves the other cores to what runs beside it."""
    enforce_eager: bool = False
    """No CUDA graphs or compilation: a quicker start, slower tokens. Always so on CPU."""
    agent: AgentConfig = Field(default_factory=AgentConfig)
    """Turns and tools of a rollout."""
    agent_workers: int = Field(default=1, ge=1)
    """Processes that drive the rollouts."""
    max_probs_diff: float | None = Field(default=None, gt=0, le=1)
    """The run ends where the engines' and the trainer's probability of a token differ by more than this on average
    (``rollout/probs_diff/mean``) in three steps in a row. Default: 0.001 in float32, 0.03 where either side has
    bfloat16, and no bound with ``top_p`` below 1."""
    val_kwargs: ValidationSampling = Field(default_factory=ValidationSampling)
    """Sampling in validation."""

    @model_validator(mode="after")
    def _engines_are_free_to_go_ahead(self) -> RolloutConfig:
        if self.ahead > 0 and self.placement == "colocated":
            raise ConfigError(
                f"rollout.ahead: given {self.ahead} with placement=colocated, allowed: 0, or placement=separate. "
                "Colocated engines are on the ranks' devices, which train or sample, one after the other."
            )
        return self
