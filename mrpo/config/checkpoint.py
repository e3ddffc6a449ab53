"""When a run's state is saved and what is kept of it, how a run goes on from it, and what stops a run early."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from mrpo.config.base import FieldError, StrictModel
from mrpo.errors import ConfigError


class CheckpointConfig(StrictModel):
    """Saving. A checkpoint is whole or absent: until its last byte is safe, the one before it is the newest."""

    WITHOUT_EFFECT: ClassVar = {"best_mode": ("best_metric", (None,))}

    every: int = Field(default=-1, ge=-1)
    """Steps between checkpoints; -1: none but those that ``final`` or a request to stop makes."""
    final: bool = True
    """Save the last step, whatever ``every`` says. The model that a run leaves is made of it (``trainer.export``)."""
    folder: str | None = Field(default=None, min_length=1)
    """Where they lie: a folder that every node sees, or a URL that fsspec knows (say ``s3://bucket/run``). Default:
    ``checkpoints`` in the run folder."""
    keep_last: int = Field(default=2, ge=1)
    """The newest ones to keep. With 1 there is nothing to fall back to if that one is damaged."""
    keep_every: int | None = Field(default=None, ge=1)
    """Keep every checkpoint whose step is a multiple of this as well, for good. Unset: none."""
    keep_best: int = Field(default=0, ge=0)
    """Keep this many of the best by ``best_metric`` as well."""
    best_metric: str | None = None
    """A metric's name, as in metrics.jsonl; a checkpoint whose step lacks it doesn't compete."""
    best_mode: Literal["max", "min"] = "max"
    """The best is the largest or the smallest."""
    asynchronous: bool = False
    """Write in the background while training goes on: less waiting, and memory for a copy of the state."""

    @model_validator(mode="after")
    def _consistent(self) -> CheckpointConfig:
        if self.every == 0:
            raise ConfigError("checkpoint.every: given 0, allowed: -1, or 1 and more")
        if (self.keep_best > 0) != (self.best_metric is not None):
            raise ConfigError(
                f"checkpoint.best_metric: given {self.best_metric} with keep_best={self.keep_best}, "
                "allowed: both, or none of the two"
            )
        return self


class ResumeConfig(StrictModel):
    """Going on from a checkpoint. The default makes it the same command again, in the same run folder."""

    WITHOUT_EFFECT: ClassVar = {"allow": ("mode", ("never",)), "step": ("mode", ("never",))}

    RENAMED: ClassVar[Mapping[str, str]] = {"restarts": "max_restarts"}

    mode: Literal["auto", "never", "require"] = "auto"
    """From the newest whole checkpoint if there is any; from none, and it is an error if there are some; or from one,
    and it is an error if there is none."""
    allow: list[str] = Field(default_factory=list)
    """What may differ from the run that saved the checkpoint: names as the refusal prints them. A name covers all that
    lies below it: ``actor.learning_rate``, ``data``, ``rewards``, ``versions``."""
    max_restarts: int = Field(default=3, ge=0)
    """Times that the command starts the run again by itself, from the newest checkpoint, after a failure. A run that
    fails at the same step twice isn't started again."""
    step: int | None = Field(default=None, ge=1)
    """Go back to the checkpoint of this step. Later ones are given up. Leave it out of the next command, which would
    go back again."""


class InterruptConfig(StrictModel):
    """Ending early with everything saved, when a scheduler or a person asks for it."""

    grace: float = Field(default=120.0, gt=0)
    """Seconds that saving may take after the request. A cluster's own grace period must be longer."""
    wall_clock: float | None = Field(default=None, gt=0)
    """Seconds after the start at which the run saves and ends by itself. Unset: none."""
    slurm_margin: float = Field(default=300.0, ge=0)
    """Under SLURM the run saves and ends by itself this many seconds before its job's time is up. It must have room
    for the rest of a step and for saving."""


class WatchdogConfig(StrictModel):
    """When nothing moves: no phase begins and no rollout ends. A step's longest phase must be shorter than both."""

    RENAMED: ClassVar[Mapping[str, str]] = {"warn": "warn_after", "limit": "timeout"}

    warn_after: float = Field(default=600.0, gt=0)
    """Seconds after which the run reports what it waits for."""
    timeout: float = Field(default=3600.0, gt=0)
    """Seconds after which it writes all stacks to the logs and fails, to be started again (``resume.max_restarts``)."""

    @model_validator(mode="after")
    def _warns_before_it_ends(self) -> WatchdogConfig:
        if self.warn_after >= self.timeout and self.warn_after != type(self).model_fields["warn_after"].default:
            raise FieldError("warn_after", f"given {self.warn_after:g}, allowed: less than timeout ({self.timeout:g}).")
        return self
