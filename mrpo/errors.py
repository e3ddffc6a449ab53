"""Errors that a user can act on, and the wording for a wrong name.

Every one of them derives from ``MrpoError``. ``mrpo.cli.main`` catches that once, shows the message without a
traceback, and ends with the error's exit code. To add one, derive from ``MrpoError``, and from the builtin error that
it would otherwise be, in the module that raises it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import ClassVar

from mrpo.exit_code import ExitCode

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


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


def printable(text: str) -> str:
    """Without what a terminal would obey: texts of servers and responses are quoted in messages.

    >>> printable("a" + chr(27) + "[31mb")
    'a\\\\x1b[31mb'
    """
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


@contextmanager
def usable(field: str, given: object) -> Iterator[None]:
    """What the operating system has against a file or folder of the user's becomes one ConfigError, inside.

    >>> with usable("run_dir", "/dev/null/run"):
    ...     open("/dev/null/run")
    Traceback (most recent call last):
    mrpo.errors.ConfigError: run_dir: given '/dev/null/run', which can't be used: Not a directory.
    """
    try:
        yield
    except MrpoError:
        raise
    except (OSError, ValueError, RuntimeError) as error:  # a NUL byte; a loop of links, or ~ of nobody
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ConfigError(f"{field}: given {str(given)!r:.300}, which can't be used: {reason}.") from None
