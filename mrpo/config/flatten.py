"""Nested mappings as one level of dotted names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def flatten(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf by its dotted name. An empty mapping is a leaf.

    >>> dict(flatten({"actor": {"clip": 0.2, "optim": {}}, "seed": 1}))
    {'actor.clip': 0.2, 'actor.optim': {}, 'seed': 1}
    """
    for key, value in content.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
