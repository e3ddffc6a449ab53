"""Errors that a user can act on, and how a wrong name is told."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ConfigError(ValueError):
    """A setting is wrong. The message names the field, what was given and what is allowed."""


def unknown_name(what: str, given: object, allowed: Iterable[str], noun: str = "name") -> ConfigError:
    """The one wording for a name that isn't among ``allowed``: nearest valid name first, then all of them."""
    names = sorted(allowed)
    near = difflib.get_close_matches(str(given), names, n=1, cutoff=0.6)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    where = f"{what}: " if what else ""
    return ConfigError(f"{where}unknown {noun} {given!r}.{hint} Allowed: {', '.join(names) or 'none'}.")
