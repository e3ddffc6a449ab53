"""Load a reward function by the name that the config gives it."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mrpo.errors import ConfigError

RewardFunction = Callable[[Any, str, Any, dict[str, Any]], Any]
"""``(prompt, response, ground_truth, extra)`` to a float, None or a dict with ``score``; or a coroutine of one.

``prompt`` is the chat's messages, ``response`` the decoded text, ``extra`` the row's ``extra_info`` plus what is known
of the rollout: ``data_source``, ``response_tokens``.
"""


def load_function(given: str, folder: Path) -> RewardFunction:
    """``FILE.py:NAME``, relative to ``folder``, or ``package.module:NAME``. A file is executed once per process."""
    module_name, _, name = given.partition(":")
    if module_name.endswith(".py"):
        file = (folder / module_name).resolve()
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
        module = sys.modules[unique]
    else:
        module = importlib.import_module(module_name)
    function = getattr(module, name, None)
    if not callable(function):
        raise ConfigError(f"reward function {given!r}: {module_name} defines no function {name!r}")
    return function
