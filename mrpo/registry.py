"""One idiom for every registry: a folder of small modules, a decorator, an error that lists the names.

A registry's built-in entries are the modules of one package, each named as it registers itself, so the names are known
without importing torch; the module is imported when its entry is asked for.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from mrpo.errors import unknown_name

T = TypeVar("T")


def module_names(package: str) -> list[str]:
    """Names of the public modules of ``package`` (a dotted name below ``mrpo``), found on disk without importing it."""
    folder = Path(__file__).parent.joinpath(*package.split(".")[1:])
    return sorted(m.name for m in pkgutil.iter_modules([str(folder)]) if not m.name.startswith("_"))


class Registry(Generic[T]):
    """Entries of one ``kind`` (say "estimator"), whose built-ins live in ``package``."""

    def __init__(self, kind: str, package: str):
        self.kind, self.package = kind, package
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator: enter the decorated object under ``name``. A name can be taken only once."""

        def enter(entry: T) -> T:
            if self._entries.setdefault(name, entry) is not entry:
                raise ValueError(f"{self.kind} {name!r} is registered already")
            return entry

        return enter

    def names(self) -> list[str]:
        return sorted({*module_names(self.package), *self._entries})

    def __getitem__(self, name: str) -> T:
        if name not in self._entries and name in module_names(self.package):
            importlib.import_module(f"{self.package}.{name}")
        if name not in self._entries:
            raise unknown_name(self.kind, name, self.names())
        return self._entries[name]
