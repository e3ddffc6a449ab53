"""Types of the values of all rows: a column of the file that verl reads has one, and may not change a value for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mrpo.errors import ConfigError

LARGEST = 1 << 63
"""Integers of a column are below it, and not below minus it."""


class Kinds:
    """What has been seen of each field, in all files.

    >>> kinds = Kinds()
    >>> kinds.see({"level": 1}, "a.jsonl row 1")
    >>> kinds.see({"level": 1.5}, "b.jsonl row 7")
    Traceback (most recent call last):
    mrpo.errors.ConfigError: data: level is int in a.jsonl row 1 and float in b.jsonl row 7. Allowed: one type in ...
    """

    def __init__(self) -> None:
        self.first: dict[str, tuple[type, str]] = {}
        self.conflict = ""
        """The first field with values of two types that can't be one column; empty: none has."""

    def see(self, row: Any, where: str) -> None:
        """Raises ConfigError if a column would silently change a number: an integer beside fractions, or a huge one."""
        for name, value in _leaves(row):
            kind = type(value)
            known, at = self.first.setdefault(name, (kind, where))
            if kind is int and not -LARGEST <= value < LARGEST:
                raise ConfigError(
                    f"data: {name} is {value!s:.40} in {where}. Allowed: an integer of 64 bits, or a text."
                )
            if known is kind:
                continue
            conflict = f"data: {name} is {known.__name__} in {at} and {kind.__name__} in {where}. Allowed: one type in "
            if {known, kind} == {int, float}:
                raise ConfigError(f"{conflict}all rows of all files; text keeps any number as it is.")
            self.conflict = self.conflict or f"{conflict}all rows of all files."


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Each value that isn't a mapping, a list or null, with its path; all elements of a list have the same."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, f"{name}[]")
    elif value is not None:
        yield name, value
