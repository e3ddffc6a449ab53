"""Errors that a user can act on, and the wording for a wrong name.

Every one of them derives from ``MrpoError``. ``mrpo.cli.main`` catches that once, shows the message without a
traceback, and ends with the error's exit code. To add one, derive from ``MrpoError``, and from the builtin error that
it would otherwise be, in the module that raises it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar

from mrpo.exit_code import ExitCode


class MrpoError(Exception):
    """Something went wrong that a user can mend. The message is all that a command shows of it."""

    exit_code: ClassVar[ExitCode] = ExitCode.FAILED


class ConfigError(MrpoError, ValueError):
    """A setting is wrong. The message names the field, what was given and what is allowed."""

    exit_code = ExitCode.BAD_INPUT


class RunFailed(MrpoError, RuntimeError):
    """A run, or one attempt at it, ended with an error. The message is its cause and where the logs are."""


def unknown_name(what: str, given: object, allowed: Iterable[str], noun: str = "name") -> ConfigError:
    """The one wording for a name that isn't among ``allowed``: nearest valid name first, then all of them.

    >>> print(unknown_name("algorithm.estimator", "gdp", ["gdpo", "grpo"]))
    algorithm.estimator: unknown name 'gdp'. Did you mean 'gdpo'? Allowed: gdpo, grpo.
    """
    names = sorted(allowed)
    near = difflib.get_close_matches(str(given), names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    where = f"{what}: " if what else ""
    return ConfigError(f"{where}unknown {noun} {given!r}.{hint} Allowed: {', '.join(names) or 'none'}.")
