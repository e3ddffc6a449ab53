"""How long a sequence a model takes, by its ``config.json``, held against what a run asks of it. Nothing is loaded.

``max_position_embeddings`` of the text model, and what its RoPE scaling makes of that: ``linear`` and ``dynamic``
multiply it by their factor, ``yarn`` its ``original_max_position_embeddings``; ``llama3`` and ``longrope`` are counted
in it already. As vLLM 0.25 derives it, which would refuse a longer one when its engine starts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mrpo.config.flatten import flatten
from mrpo.config.model_files import find_model_file
from mrpo.config.run import RunConfig
from mrpo.errors import ConfigError

COUNTED_ALREADY = ("default", "llama3", "longrope", "su", "mrope")


class UnknownLength(ValueError):
    """How long a sequence a model takes is unknown; the message says why."""


def positions(content: Mapping[str, Any]) -> int:
    """Tokens of the longest sequence that a model of this ``config.json`` takes.

    >>> positions({"max_position_embeddings": 4096, "rope_scaling": {"rope_type": "linear", "factor": 2.0}})
    8192

    Raises:
        UnknownLength: it doesn't say.
    """
    text = content.get("text_config", content)
    limit = text.get("max_position_embeddings") if isinstance(text, dict) else None
    if type(limit) is not int:
        raise UnknownLength("its config.json has no max_position_embeddings")
    rope = text.get("rope_parameters") or text.get("rope_scaling") or {}
    if not isinstance(rope, dict):
        raise UnknownLength("its config.json has a RoPE scaling of another form")
    by_layer = [part for part in rope.values() if isinstance(part, dict)]  # of the kinds of a model's layers
    return max(_scaled(limit, part) for part in by_layer or [rope])


def _scaled(limit: int, rope: Mapping[str, Any]) -> int:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind in COUNTED_ALREADY:
        return limit
    if kind == "yarn":
        limit = rope.get("original_max_position_embeddings") or limit
    return int(limit * (rope.get("factor") or 1.0))


def model_positions(path: str) -> int:
    """The same of the model at ``path``. Raises UnknownLength if its ``config.json`` isn't here, or doesn't say."""
    file = find_model_file(path, "config.json")
    if file is None:
        raise UnknownLength("it has no config.json on this machine")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        raise UnknownLength("its config.json is no JSON") from None
    if not isinstance(content, dict):
        raise UnknownLength("its config.json is no object")
    return positions(content)


def policy_positions(config: RunConfig) -> int:
    """Of the policy as the run loads it. Raises UnknownLength if settings of verl's change it, too."""
    for key, _ in flatten(config.verl):
        if "rope" in key or "max_position" in key or "hf_overrides" in key:
            raise UnknownLength(f"verl.{key} changes it")
    return model_positions(config.model.path)


def require_positions(config: RunConfig) -> None:
    """Raises ConfigError if a model is known to take less than the longest sequence that the run gives it."""
    try:
        given, limit = config.data.max_prompt_length + config.data.max_response_length, policy_positions(config)
        if given > limit:
            raise ConfigError(
                f"data.max_prompt_length, data.max_response_length: given {config.data.max_prompt_length} + "
                f"{config.data.max_response_length} = {given}, allowed: {limit} together, the positions of model.path "
                f"({config.model.path})."
            )
    except UnknownLength:
        pass  # mrpo plan says so
    for name, reward in config.rewards.items():
        if reward.model is None:
            continue
        try:
            limit = model_positions(reward.model.path)
        except UnknownLength:
            continue
        if reward.model.max_model_len > limit:
            raise ConfigError(
                f"rewards.{name}.model.max_model_len: given {reward.model.max_model_len}, allowed: at most {limit}, "
                f"the positions of {reward.model.path}."
            )
