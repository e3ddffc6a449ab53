"""Overrides in Hydra's grammar: the one place where every command's ``key=value`` arguments are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from mrpo.errors import ConfigError


def take(overrides: Sequence[str], *keys: str) -> tuple[dict[str, Any], list[str]]:
    """Pick out the overrides of ``keys``, which aren't part of a run's config.

    Returns:
        The value of each key that was given, the last one if it was given again; and all other overrides, verbatim.

    Raises:
        ConfigError: a text is no override.

    >>> take(["recipe=quickstart", "seed=3", "cluster=a.yaml"], "recipe", "cluster")
    ({'recipe': 'quickstart', 'cluster': 'a.yaml'}, ['seed=3'])
    """
    taken: dict[str, Any] = {}
    rest = []
    for text in overrides:
        override = parse(text)
        if override.key_or_group in keys and not override.is_delete():
            taken[override.key_or_group] = override.value()
        else:
            rest.append(text)
    return taken, rest


def parse(text: str) -> Override:
    """One override.

    Raises:
        ConfigError: it doesn't follow the grammar, or is a sweep over several values.
    """
    try:
        [override] = OverridesParser.create().parse_overrides([text])
    except HydraException as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"override: given {text!r}, allowed: key=value in Hydra's grammar ({reason}).") from None
    if not override.key_or_group:
        raise ConfigError(f"override: given {text!r}, allowed: key=value in Hydra's grammar (there is no key).")
    if override.is_sweep_override():
        raise ConfigError(f"{override.key_or_group}: given a sweep ({text}), allowed: one value.")
    return override


def settable(text: str) -> str:
    """The override as one that may also set a key that the YAML doesn't mention."""
    return text if parse(text).is_delete() else "++" + text.lstrip("+")
