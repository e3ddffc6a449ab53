"""The kind of device that a run computes on: one vocabulary for settings, plans and verl."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from mrpo.config.placement import Groups
from mrpo.config.run import RunConfig
from mrpo.errors import ConfigError


class Device(StrEnum):
    """As in ``trainer.device``, where ``auto`` leaves the choice between the two to ``device_here``."""

    CPU = "cpu"
    GPU = "gpu"

    @property
    def verl_name(self) -> str:
        """What verl's ``trainer.device`` calls it."""
        return "cuda" if self is Device.GPU else "cpu"


def device_here(config: RunConfig) -> Device:
    """The device of a run that starts on this machine, or on the Ray cluster that it joins.

    Raises:
        ConfigError: GPUs are asked for, and there are none.
    """
    found = any(Path("/dev").glob("nvidia[0-9]*")) or config.trainer.ray == "join"
    if config.trainer.device == "gpu" and not found:
        raise ConfigError("trainer.device: given gpu, but this machine has none. Allowed here: cpu, auto.")
    return Device.GPU if found and config.trainer.device != "cpu" else Device.CPU


def device_on(config: RunConfig, groups: Groups | None) -> Device:
    """The device of a run that starts elsewhere: what the config says, else what the cluster has, else what is here.

    Args:
        groups: the cluster's nodes by role; None if no cluster is known.
    """
    if config.trainer.device != "auto":
        return Device(config.trainer.device)
    if groups is None:
        return device_here(config)
    return Device.GPU if groups["trainer"].gpus_per_node else Device.CPU
