"""Where a reward's ``function:`` is defined: the grammar of that field, read without importing what it names.

| given | stands for |
|---|---|
| ``FILE.py:NAME`` | a name in a file, relative to the recipe's folder |
| ``package.module:NAME`` | a name in a module that can be imported |
| ``NAME`` | a reward of the library, or else an entry point of an installed package in the group ``mrpo.rewards`` |
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mrpo.errors import ConfigError, unknown_name
from mrpo.registry import module_names

LIBRARY = "mrpo.rewards.library"
ENTRY_POINTS = "mrpo.rewards"


class Source(NamedTuple):
    """A file to execute or a module to import, and the name of the function or class in it."""

    module: Path | str
    name: str


def source_of(given: str, folder: Path, field: str = "") -> Source:
    """What ``given``, the value of the config's ``field``, stands for; files are relative to ``folder``.

    >>> source_of("my_package.rewards:short", Path("."))
    Source(module='my_package.rewards', name='short')
    >>> source_of("exact_match", Path("."))
    Source(module='mrpo.rewards.library.exact_match', name='exact_match')

    Raises:
        ConfigError: it has none of the three forms, or there is no such file or bare name.
    """
    where = field or f"reward function {given!r}"
    module, colon, name = given.partition(":")
    if not colon:
        if not given.isidentifier():
            raise ConfigError(f"{where}: given {given!r}, allowed: FILE.py:NAME, package.module:NAME or a name.")
        if given in module_names(LIBRARY):
            return Source(f"{LIBRARY}.{given}", given)
        offered = _entry_points()
        if given not in offered:
            raise unknown_name(field, given, bare_names(), noun="reward function")
        module, _, name = offered[given].partition(":")
    if not name.isidentifier():
        raise ConfigError(f"{where}: given {given!r}, allowed: FILE.py:NAME or package.module:NAME.")
    if not module.endswith(".py"):
        return Source(module, name)
    if not (folder / module).is_file():
        raise ConfigError(f"{where}: no such file: {folder / module}")
    return Source(folder / module, name)


def file_of(given: str, folder: Path, field: str) -> Path:
    """The file that defines ``given`` (see ``source_of``).

    Raises:
        ConfigError: there is no such file, module or bare name.
    """
    module, _ = source_of(given, folder, field)
    if isinstance(module, Path):
        return module
    try:
        spec = importlib.util.find_spec(module)
    except (ModuleNotFoundError, ValueError):
        spec = None
    if spec is None or spec.origin is None:
        raise ConfigError(f"{field}: no module named {module!r}.")
    return Path(spec.origin)


def bare_names() -> list[str]:
    """The bare names there are, without importing what they name."""
    return sorted({*module_names(LIBRARY), *_entry_points()})


def library_bounds(given: str, options: Mapping[str, Any]) -> tuple[float, float] | None:
    """The interval that holds every score of the library's reward ``given`` with ``options``; None: it knows none, or
    it isn't one of the library.

    >>> library_bounds("tool_call", {})
    (-3.0, 3.0)

    Raises:
        TypeError, ValueError: it doesn't take the options.
    """
    bounds = _of_library(given, "bounds")
    return None if bounds is None else bounds(**options)


def library_seconds(given: str, options: Mapping[str, Any]) -> float | None:
    """Seconds that a score of the library's reward ``given`` may take by its ``options``, all of them the response's
    doing, so that its timeout has to be above them; None: it has no such option.

    >>> library_seconds("code", {"total": 10})
    15.0

    Raises:
        TypeError, ValueError: it doesn't take the options.
    """
    seconds = _of_library(given, "seconds")
    return None if seconds is None else seconds(**options)


def library_needs(given: str, options: Mapping[str, Any]) -> list[str]:
    """Names of the rewards whose scores the library's reward ``given`` reads.

    >>> library_needs("rank", {"of": "helpful"})
    ['helpful']

    Raises:
        TypeError: it doesn't take the options.
    """
    needs = _of_library(given, "needs")
    return [] if needs is None else needs(**options)


def library_notes(given: str, here: bool) -> list[str]:
    """What a user of the library's reward ``given`` should know before a run; ``here``: also of this machine."""
    notes = _of_library(given, "notes")
    return [] if notes is None else notes(here)


def _of_library(given: str, name: str) -> Any:
    return (
        getattr(importlib.import_module(f"{LIBRARY}.{given}"), name, None) if given in module_names(LIBRARY) else None
    )


def _entry_points() -> dict[str, str]:
    from importlib.metadata import entry_points  # slow to import, and only a bare name needs it

    return {entry.name: entry.value for entry in entry_points(group=ENTRY_POINTS)}
