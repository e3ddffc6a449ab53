"""What is trained on what: the policy's model, and the files of prompts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from mrpo.config.base import StrictModel


class LoraConfig(StrictModel):
    """An adapter that is trained in place of the model's own weights. Its names are PEFT's and verl's."""

    RENAMED: ClassVar[Mapping[str, str]] = {"r": "rank", "lora_rank": "rank", "lora_alpha": "alpha"}

    rank: int = Field(ge=1)
    """Rank of the adapter's matrices."""
    alpha: int = Field(default=16, ge=1)
    """Scale: what the adapter adds is multiplied by ``alpha / rank``."""
    target_modules: str | list[str] = "all-linear"
    """The layers that get one: names, a regular expression, or ``all-linear``."""
    exclude_modules: str | list[str] | None = None
    """Layers that get none."""
    merge: bool = True
    """The engines get the merged weights. false: they hold the adapter apart (colocated placement only), so that an
    update is small, and sampling slower."""


class ModelConfig(StrictModel):
    """The policy."""

    OF_VERL: ClassVar = "actor_rollout_ref.model"

    path: str
    """A Hugging Face folder, or a name on the hub."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Precision of the trainer's forward and backward pass. Parameters and optimizer stay in float32."""
    gradient_checkpointing: bool = True
    """Recompute activations in the backward pass: less memory, more time."""
    trust_remote_code: bool = False
    """Execute the Python files that come with the model, as this user, in every process that loads it. Needed for
    models that transformers doesn't know; read them first."""
    lora: LoraConfig | None = None
    """Train an adapter (LoRA) instead of all weights. With ``actor.kl_loss_coef`` the reference is the model without
    it, which takes no memory of its own."""


class ColumnsConfig(StrictModel):
    """Columns of the data files under other names than verl's."""

    prompt: str | None = None
    """The prompt: chat messages, or a text, which the user says. Default: ``prompt``."""
    ground_truth: str | None = None
    """What rewards compare with. Default: ``ground_truth`` in ``reward_model``."""
    data_source: str | None = None
    """The data set's name in metrics. Default: ``data_source``, or the file's name."""


class DataConfig(StrictModel):
    """The prompts. Files are parquet, JSON lines or JSON; verl's schema (``prompt``, ``reward_model.ground_truth``,
    ``data_source``, ``extra_info``) or ``columns`` of other names."""

    OF_VERL: ClassVar = "data"

    train_files: list[str] = Field(min_length=1)
    """Files of training prompts; or a Hugging Face data set's split, ``OWNER/NAME:SPLIT`` or
    ``OWNER/NAME:CONFIGURATION:SPLIT``, also of a repository's folder on this machine."""
    val_files: list[str] = Field(min_length=1)
    """Files (or splits) of validation prompts."""
    train_batch_size: int = Field(ge=1)
    """Prompts per step. Times ``budget.rollouts_per_prompt`` this is the rollouts per step, a fixed number."""
    val_batch_size: int | None = Field(default=None, ge=1)
    """Validation prompts per batch. Default: all at once."""
    max_prompt_length: int = Field(default=512, ge=1)
    """Longest prompt, in tokens of its chat template."""
    overlong: Literal["refuse", "drop", "truncate_left"] = "refuse"
    """What becomes of a longer one: the run is refused, the row is left out, or the prompt loses its beginning."""
    columns: ColumnsConfig = Field(default_factory=ColumnsConfig)
    apply_chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Arguments of the chat template, such as ``{enable_thinking: false}``."""
    max_response_length: int = Field(default=512, ge=1)
    """Longest rollout, in tokens. It is cut off there."""
    shuffle: bool = True
    """Shuffle the prompts in every epoch, by ``seed``."""
