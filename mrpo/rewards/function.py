"""Find a reward function by the name that the config gives it, and bind its options."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mrpo.errors import ConfigError, unknown_name
from mrpo.registry import module_names

RewardFunction = Callable[[Any, str, Any, dict[str, Any]], Any]
"""``(prompt, response, ground_truth, extra)`` to a float, None or a dict with ``score``; or a coroutine of one.

``prompt`` is the chat's messages, ``response`` the decoded text, ``extra`` the row's ``extra_info`` plus what is known
of the rollout: ``data_source``, ``response_tokens``.
"""

LIBRARY = "mrpo.rewards.library"
ENTRY_POINTS = "mrpo.rewards"
"""Group of entry points by which an installed package offers rewards by bare names."""


def load_function(given: str, folder: Path, options: Mapping[str, Any] | None = None) -> RewardFunction:
    """The function that ``given`` names (see ``find``), bound to its options (see ``bind``)."""
    return bind(given, find(given, folder), options or {})


def find(given: str, folder: Path) -> Any:
    """What ``given`` names: ``FILE.py:NAME`` relative to ``folder``, ``package.module:NAME``, or the bare name of a
    reward in the library or else of an entry point. A file is executed once per process.

    Raises:
        ConfigError: there is no such file or name.
    """
    module_name, colon, name = given.partition(":")
    if not colon:
        return _find_bare(given)
    module = _run_file(given, (folder / module_name).resolve()) if module_name.endswith(".py") else None
    module = module or importlib.import_module(module_name)
    found = getattr(module, name, None)
    if not callable(found):
        raise ConfigError(f"reward function {given!r}: {module_name} defines no function {name!r}")
    return found


def bare_names() -> list[str]:
    """The bare names there are, without importing what they name."""
    return sorted({*module_names(LIBRARY), *_entry_points()})


def is_async(target: Any) -> bool:
    """Is it, or what it binds to, called with ``await``?"""
    while isinstance(target, functools.partial):
        target = target.func
    return inspect.iscoroutinefunction(target) or inspect.iscoroutinefunction(getattr(target, "__call__", None))  # noqa: B004


def bind(given: str, target: Any, options: Mapping[str, Any]) -> RewardFunction:
    """A function of ``(prompt, response, ground_truth, extra)``, async if ``target`` is.

    A class is instantiated with the options. A function gets them as keyword arguments in every call. One with a
    parameter ``solution_str`` is verl's kind and called like ``compute_score``, by keyword.

    Raises:
        ConfigError: the signature doesn't take the options or those arguments.
    """
    if inspect.isclass(target):
        _check_signature(given, target, (), options)
        target, options = target(**options), {}
    if "solution_str" in _parameters(target):
        verl_arguments: dict[str, Any] = {
            "data_source": None,
            "solution_str": "",
            "ground_truth": None,
            "extra_info": {},
        }
        _check_signature(given, target, (), {**verl_arguments, **options})
        return functools.partial(_await_verl if is_async(target) else _call_verl, target, options)
    _check_signature(given, target, (None, "", None, {}), options)
    return functools.partial(target, **options) if options else target


def _find_bare(name: str) -> Any:
    if name in module_names(LIBRARY):
        return getattr(importlib.import_module(f"{LIBRARY}.{name}"), name)
    offered = _entry_points()
    if name not in offered:
        raise unknown_name("", name, bare_names(), noun="reward function")
    return offered[name].load()


def _entry_points() -> dict[str, Any]:
    from importlib.metadata import entry_points  # slow to import, and only a bare name needs it

    return {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}


def _run_file(given: str, file: Path) -> Any:
    unique = f"mrpo_rewards_{abs(hash(str(file)))}"
    if unique not in sys.modules:
        spec = importlib.util.spec_from_file_location(unique, file)
        if spec is None or spec.loader is None or not file.is_file():
            raise ConfigError(f"reward function {given!r}: no such file: {file}")
        module = importlib.util.module_from_spec(spec)
        sys.modules[unique] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[unique]
            raise
    return sys.modules[unique]


def _parameters(target: Any) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(target).parameters
    except ValueError:  # some functions written in C have none
        return {}


def _check_signature(given: str, target: Any, arguments: tuple[Any, ...], options: Mapping[str, Any]) -> None:
    try:
        signature = inspect.signature(target)
    except ValueError:
        return
    try:
        signature.bind(*arguments, **options)
    except TypeError as error:
        raise ConfigError(f"reward function {given!r}: {error}; it takes {signature}") from None


def _call_verl(
    target: Any, options: Mapping[str, Any], prompt: Any, response: str, ground_truth: Any, extra: dict[str, Any]
) -> Any:
    return target(
        data_source=extra.get("data_source"),
        solution_str=response,
        ground_truth=ground_truth,
        extra_info=extra,
        **options,
    )


async def _await_verl(*arguments: Any) -> Any:
    return await _call_verl(*arguments)
