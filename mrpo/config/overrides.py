"""Overrides in Hydra's grammar: the one place where every command's ``key=value`` arguments are read."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, RangeSweep
from hydra.errors import HydraException

from mrpo.errors import ConfigError

INSTEAD_OF_HYDRA = (
    "Hydra only composes the settings: set run_dir for the folder, and trainer.experiment_name for the run's name; "
    "logs lie in the run folder; mrpo compare runs several."
)


def take(overrides: Sequence[str], *keys: str) -> tuple[dict[str, Any], list[str]]:
    """Pick out the overrides of ``keys``, which aren't part of a run's config.

    Returns:
        The value of each key that was given, the last one if it was given again; and all other overrides, verbatim.

    Raises:
        ConfigError: a text is no override.

    >>> take(["recipe=quickstart", "seed=3", "cluster=a.yaml"], "recipe", "cluster")
    ({'recipe': 'quickstart', 'cluster': 'a.yaml'}, ['seed=3'])
    """
    taken: dict[str, Any] = {}
    rest = []
    for text in overrides:
        parsed = parse(text)
        if parsed.key_or_group in keys and not parsed.is_delete():
            taken[parsed.key_or_group] = parsed.value()
        else:
            rest.append(text)
    return taken, rest


def parse(text: str) -> Override:
    """One override. A value that begins with ``~/`` is a path in the home folder.

    Raises:
        ConfigError: it doesn't follow the grammar, or is a sweep over several values.
    """
    parsed = _parse(text)
    if parsed.is_sweep_override():
        raise ConfigError(
            f"{parsed.key_or_group}: given a sweep ({text}), allowed: one value (mrpo compare runs several)."
            f"{_as_text(text)}"
        )
    return parsed


def expand(text: str) -> list[str]:
    """The overrides that a sweep in Hydra's grammar stands for, in its order; one that is none is returned alone.

    >>> expand("seed=0,1"), expand("data.train_files=[a,b],[c]"), expand("seed=range(2)"), expand("x='a,b'")
    (['seed=0', 'seed=1'], ['data.train_files=[a,b]', 'data.train_files=[c]'], ['seed=0', 'seed=1'], ["x='a,b'"])

    Raises:
        ConfigError: it doesn't follow the grammar, or its values can't be listed.
    """
    parsed = _parse(text)
    if not parsed.is_sweep_override():
        return [text]
    key, sweep = text.partition("=")[0], parsed.value()
    if isinstance(sweep, ChoiceSweep) and not sweep.shuffle:
        return [f"{key}={Override._get_value_element_as_str(value)}" for value in sweep.list]
    if isinstance(sweep, RangeSweep) and not sweep.shuffle:
        return [f"{key}={value}" for value in sweep.range()]
    raise ConfigError(f"{key}: given {text!r}, allowed: values with commas, choice(a,b) or range(start,stop,step).")


def as_override(key: str, value: Any) -> str:
    """``key=value`` in Hydra's grammar of a value as YAML has it.

    >>> as_override("a", [1, None, {"b": "c,d", "e": True}]), as_override("f", "0")
    ("a=[1,null,{b:'c,d',e:true}]", "f='0'")
    """
    return f"{key}={_element(value)}"


def _element(value: Any) -> str:
    if isinstance(value, str):
        return override("", value).removeprefix("=")
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_element(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Sequence):
        return "[" + ",".join(map(_element, value)) + "]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)


def _parse(text: str) -> Override:
    try:
        [parsed] = OverridesParser.create().parse_overrides([_at_home(text)])
    except RecursionError:
        raise ConfigError(f"override: given {text[:80]!r}…, allowed: less deeply nested.") from None
    except (HydraException, ValueError) as error:  # a number that is too long for Python
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"override: given {text!r}, allowed: key=value in Hydra's grammar ({reason}).{_as_text(text)}"
        ) from None
    if re.match(r"hydra([./@]|$)", str(parsed.key_or_group)):
        raise ConfigError(f"{parsed.key_or_group}: given {text!r}, which has no effect here. {INSTEAD_OF_HYDRA}")
    if parsed.package is not None:
        raise ConfigError(f"override: given {text!r}, allowed: key=value without a package (@{parsed.package}).")
    if not parsed.key_or_group:
        raise ConfigError(f"override: given {text!r}, allowed: key=value in Hydra's grammar (there is no key).")
    return parsed


def _at_home(text: str) -> str:
    key, equals, value = text.partition("=")
    return override(key, str(Path(value).expanduser())) if equals and value.startswith("~/") else text


def _as_text(text: str) -> str:
    """How the value is written if it is meant as a text."""
    key, equals, value = text.partition("=")
    if not equals or not re.fullmatch(r"[+]{0,2}[\w.]+", key):
        return ""
    return f" If the value is a text, in a shell: {shlex.quote(override(key, value))}"


def override(key: str, value: str) -> str:
    """``key=value`` in Hydra's grammar, which reads ``value`` as exactly this text.

    >>> override("run_dir", "/runs/mine"), override("run_dir", "/my runs/it's")
    ('run_dir=/runs/mine', "run_dir='/my runs/it\\\\'s'")
    """
    if re.fullmatch(r"[A-Za-z0-9_.-]*(/[A-Za-z0-9_.-]*)+", value):  # the slash keeps it from being a number, or null
        return f"{key}={value}"
    # OmegaConf: an interpolation is escaped by a backslash, and backslashes before it are doubled.
    value = re.sub(r"(\\*)\$\{", r"\1\1\\${", value)
    # Hydra: so is a quote, and so are backslashes before it or at the end.
    value = re.sub(r"(\\*)('|\Z)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), value)
    return f"{key}='{value}'"


def settable(text: str) -> str:
    """The override as one that may also set a key that the YAML doesn't mention."""
    return text if parse(text).is_delete() else "++" + _at_home(text).lstrip("+")
