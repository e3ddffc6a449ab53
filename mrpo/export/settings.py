"""What a run's config says of its model beyond what is typed: verl's settings, by verl's names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mrpo.config.run import RunConfig


def model_settings(config: RunConfig) -> dict[str, Any]:
    """What the run sets of verl's ``actor_rollout_ref.model``, and ``trust_remote_code``."""
    section: Any = config.verl
    for key in ("actor_rollout_ref", "model"):
        section = section.get(key) if isinstance(section, dict) else None
    given = {key.removeprefix("+"): value for key, value in (section or {}).items()}
    return {**given, "trust_remote_code": config.model.trust_remote_code}


def lora_rank(settings: Mapping[str, Any]) -> int:
    """The rank of the adapter that is trained; 0: the whole model is."""
    return int(settings.get("lora_rank") or 0)
