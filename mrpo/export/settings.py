"""What a run's config says of its model beyond what is typed: verl's settings, by verl's names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mrpo.config.run import RunConfig
from mrpo.config.verl import lora_settings


def model_settings(config: RunConfig) -> dict[str, Any]:
    """What the run sets of verl's ``actor_rollout_ref.model``, ``trust_remote_code`` and an adapter among it."""
    section: Any = config.verl
    for key in ("actor_rollout_ref", "model"):
        section = section.get(key) if isinstance(section, dict) else None
    given = {key.removeprefix("+"): value for key, value in (section or {}).items()}
    return {**given, **lora_settings(config.model.lora), "trust_remote_code": config.model.trust_remote_code}


def lora_rank(settings: Mapping[str, Any]) -> int:
    """The rank of the adapter that is trained; 0: the whole model is."""
    return int(settings.get("lora_rank") or 0)
