"""What the command hands to the controller, which runs in another process: ``verl.mrpo``, with types.

verl's own configuration is what crosses between processes, so this lies in it, as plain values, under ``mrpo``.
``hand_over`` writes it; the controller, its agent workers and its reward workers read it by ``received``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict
from pydantic import Field

from mrpo.config.base import StrictModel
from mrpo.config.load import validate
from mrpo.config.run import RunConfig


class Weights(StrictModel):
    """What an evaluation validates. Neither a checkpoint nor a model: what ``model.path`` holds, which
    can only be the first."""

    name: str
    """Under this name its rollouts are recorded."""
    number: int = Field(ge=1)
    """Its line in metrics.jsonl."""
    checkpoint: str | None = None
    """Folder of a checkpoint."""
    model: str | None = None
    """A Hugging Face folder, or a name on the hub, of the architecture of ``model.path``."""


class Attempt(StrictModel):
    """One start of a run."""

    number: int = Field(default=1, ge=1)
    """Counts the starts of this run, from 1."""
    start_step: int = Field(default=0, ge=0)
    """The step that is done already; 0: none."""
    folder: str | None = None
    """The checkpoint of that step."""
    identity: dict[str, Any] = Field(default_factory=dict)
    """What the run is made of (``mrpo.checkpoint.compatible.describe``); saved with each checkpoint."""
    validate_first: bool = False
    """Validate before the first step."""
    evaluate: list[Weights] = Field(default_factory=list)
    """Validate these, one after the other, each with the sampling seeds of ``start_step``; train nothing (``mrpo
    evaluate``)."""


class ControllerConfig(StrictModel):
    """Everything that the controller is given."""

    run: RunConfig
    """The run's configuration."""
    recipe_folder: Path
    """Where reward functions are looked up."""
    run_dir: Path
    """The run's folder."""
    attempt: Attempt = Field(default_factory=Attempt)
    """Where this start of the run begins."""
    reward_model_urls: dict[str, str] = Field(default_factory=dict)
    """Addresses of the reward models that the run serves, by reward; the controller fills them in."""


def hand_over(verl: DictConfig, config: ControllerConfig) -> None:
    """Write ``config`` into verl's configuration, in place of what was there."""
    with open_dict(verl):
        verl.mrpo = config.model_dump(mode="json")


def begin(verl: DictConfig, attempt: Attempt) -> None:
    """Write which start of the run this is into what was handed over."""
    with open_dict(verl):
        verl.mrpo.attempt = attempt.model_dump(mode="json")


def received(verl: DictConfig) -> ControllerConfig:
    """What ``hand_over`` wrote. Raises ConfigError if it isn't valid."""
    values: Any = OmegaConf.to_container(verl.mrpo, resolve=True)
    return ControllerConfig(**{**values, "run": validate(values["run"])})
