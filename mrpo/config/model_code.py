"""Python files that come with a model: are they needed to load it? Nothing is imported to find out."""

from __future__ import annotations

import importlib.util
import json
from functools import cache
from pathlib import Path

from mrpo.config.model_files import find_model_file
from mrpo.errors import ConfigError


def check_trust(field: str, model: str, trusted: bool) -> None:
    """Raises ConfigError if transformers doesn't know this kind of model and its own code isn't to be executed.

    What isn't on this machine yet can't be looked at: then whoever loads the model refuses it.

    Args:
        field: the model's field, ``model`` or ``rewards.<name>.model``.
        model: its folder, or its name on the hub.
        trusted: the field's ``trust_remote_code``.
    """
    if not trusted and (kind := unknown_kind(model)):
        raise refusal(f"{field}.trust_remote_code", f"{model} is of type {kind!r:.80}, which transformers doesn't have")


def refusal(field: str, why: str) -> ConfigError:
    """The one message for code that wasn't asked for."""
    return ConfigError(
        f"{field}: given false, allowed: true, since {why}. It executes the Python files that come with the model, so "
        "read them first."
    )


def unknown_kind(model: str) -> str | None:
    """The type of a model that names code of its own and that transformers doesn't know; None for all others."""
    file = find_model_file(model, "config.json")
    try:
        config = json.loads(file.read_text(encoding="utf-8")) if file else {}
    except (OSError, ValueError):
        return None  # whoever loads it says what is wrong with it
    if not isinstance(config, dict) or "auto_map" not in config:
        return None
    kind = str(config.get("model_type", ""))
    return None if kind in _known_kinds() else kind


@cache
def _known_kinds() -> frozenset[str]:
    """transformers' own table, read from where it lies: importing transformers takes seconds, and torch."""
    package = importlib.util.find_spec("transformers")
    assert package is not None
    assert package.origin is not None
    table = Path(package.origin).parent / "models" / "auto" / "auto_mappings.py"
    spec = importlib.util.spec_from_file_location("_auto_mappings", table)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return frozenset(module.CONFIG_MAPPING_NAMES)
