"""Load the reward function that the config names, and bind its options: from here on it is called by position."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from mrpo.errors import ConfigError
from mrpo.rewards.signatures import OURS, adapt, kind_of
from mrpo.rewards.source import source_of

REWARD_FUNCTION = "reward function"
RewardFunction = Callable[[Any, str, Any, dict[str, Any]], Any]
"""``(prompt, response, ground_truth, extra)`` to a float, None or a dict with ``score``; or a coroutine of one.

``prompt`` is the chat's messages, ``response`` the decoded text, ``extra`` the row's ``extra_info`` plus what is known
of the rollout: ``data_source``, ``response_tokens``, ``truncated``, ``step``.

Of a group it is ``(prompt, responses, ground_truth, extras)`` to a list with one of these for each response; an extra
also has ``rewards``, the scores of the rewards that look at each rollout alone, None where there is none.
"""


def load_function(
    given: str, folder: Path, options: Mapping[str, Any] | None = None, scope: str = "rollout"
) -> RewardFunction:
    """The reward function that ``given`` names, with its options bound, as a run calls it.

    >>> correct = load_function("exact_match", Path("."), {"lower": True})
    >>> correct([{"role": "user", "content": "2 + 2?"}], "Four", "four", {"response_tokens": 1})
    1.0

    Args:
        given: the config's ``function`` (see ``source.source_of``).
        folder: what a ``FILE.py`` is relative to: the recipe's.
        options: the config's ``options``.
        scope: ``group``: the function is of ``(prompt, responses, ground_truth, extras)``, and gives a list.

    Raises:
        ConfigError: there is no such file or name, or it doesn't take the options or the four arguments.
    """
    return bind(given, find(given, folder), options or {}, scope)


def find(given: str, folder: Path, what: str = REWARD_FUNCTION) -> Any:
    """The function or class that ``given`` names (see ``source.source_of``). A file is executed once per process.
    ``what`` it is stands in messages.

    Raises:
        ConfigError: there is no such file or name.
    """
    place, name = source_of(given, folder, "" if what == REWARD_FUNCTION else f"{what} {given!r}")
    module = _run_file(place.resolve()) if isinstance(place, Path) else importlib.import_module(place)
    found = getattr(module, name, None)
    if not callable(found):
        raise ConfigError(f"{what} {given!r}: {given.rpartition(':')[0] or place} defines no function {name!r}")
    return found


def is_async(target: Any) -> bool:
    """Is it, or what it binds to, called with ``await``?"""
    while isinstance(target, functools.partial):
        target = target.func
    return inspect.iscoroutinefunction(target) or inspect.iscoroutinefunction(getattr(target, "__call__", None))  # noqa: B004


def bind(given: str, target: Any, options: Mapping[str, Any], scope: str = "rollout") -> RewardFunction:
    """A function of ``(prompt, response, ground_truth, extra)``, or of a group's, async if ``target`` is.

    A class is instantiated with the options. A function gets them as keyword arguments in every call. One of another
    framework is called as that calls it (``signatures``).

    Raises:
        ConfigError: the signature doesn't take the options or those arguments.
    """
    is_class = inspect.isclass(target)
    if is_class:
        _check_signature(given, target, (), options)
        target, options = target(**options), {}
    parameters = _parameters(target)
    if kind_of(parameters) == OURS:
        _check_signature(given, target, (None, [], None, []) if scope == "group" else (None, "", None, {}), options)
    else:
        _check_signature(given, target, (), options, partly=True)
    return adapt(target, parameters, options, is_class, scope == "group")


def _run_file(file: Path) -> ModuleType:
    """The module that ``file`` makes. What lies beside it can be imported as by a script, and by its relative name."""
    package = f"mrpo_rewards_{abs(hash(str(file.parent)))}"
    unique = f"{package}.{file.stem}"
    if unique not in sys.modules:
        if str(file.parent) not in sys.path:
            sys.path.insert(0, str(file.parent))
        sys.modules.setdefault(package, ModuleType(package)).__path__ = [str(file.parent)]
        spec = importlib.util.spec_from_file_location(unique, file)
        assert spec is not None  # since the file's name ends in .py
        assert spec.loader is not None
        sys.modules[unique] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(sys.modules[unique])
        except BaseException:
            del sys.modules[unique]
            raise
    return sys.modules[unique]


def _parameters(target: Any) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(target).parameters
    except ValueError:  # some functions written in C have none
        return {}


def _check_signature(
    given: str, target: Any, arguments: tuple[Any, ...], options: Mapping[str, Any], partly: bool = False
) -> None:
    try:
        signature = inspect.signature(target)
    except ValueError:
        return
    try:
        (signature.bind_partial if partly else signature.bind)(*arguments, **options)
    except TypeError as error:
        raise ConfigError(f"reward function {given!r}: {error}; it takes {signature}") from None
