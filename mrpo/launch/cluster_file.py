"""From the file of ``cluster=FILE.yaml`` to a typed cluster."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from mrpo.config.base import StrictModel, finding
from mrpo.config.cluster import KubernetesCluster, SlurmCluster
from mrpo.config.overrides import take
from mrpo.errors import ConfigError


class _Loader(yaml.SafeLoader):
    """A key that stands twice is an error, as in a recipe."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise yaml.constructor.ConstructorError(None, None, f"{twice[0]!r} stands there twice", node.start_mark)
        return super().construct_mapping(node, deep)


Cluster = TypeVar("Cluster", bound=StrictModel)


def take_cluster(overrides: Sequence[str] | None) -> tuple[str | None, list[str]]:
    """The file that ``cluster=FILE.yaml`` names, None if it isn't given; and all other overrides."""
    given, rest = take(overrides or [], "cluster")
    return (str(given["cluster"]) if "cluster" in given else None), rest


def load_cluster(file: str | None, kind: type[Cluster]) -> Cluster:
    """The cluster that ``file`` describes; without a file, all defaults.

    Raises:
        ConfigError: no such file, no YAML, or a wrong setting, named as ``cluster.FIELD``.
    """
    return _validate(_read(file, kind) if file is not None else {}, kind)


def load_any_cluster(file: str) -> SlurmCluster | KubernetesCluster:
    """The cluster that ``file`` describes, whichever scheduler it is for: one with a ``volume`` is Kubernetes's.

    Raises:
        ConfigError: as ``load_cluster``.
    """
    content = _read(file, SlurmCluster)
    return _validate(content, KubernetesCluster) if "volume" in content else _validate(content, SlurmCluster)


def _read(file: str, kind: type[StrictModel]) -> dict[str, Any]:
    try:
        content = yaml.load(Path(file).expanduser().read_text(encoding="utf-8"), _Loader) or {}
    except OSError as error:
        raise ConfigError(f"cluster: given {file:.300}, allowed: a YAML file ({error.strerror}).") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"cluster: {file} is no YAML: {error}") from None
    except (ValueError, RuntimeError) as error:  # no UTF-8, a NUL, a date that is none; nested too deeply, ~nobody
        raise ConfigError(f"cluster: given {file:.300}, allowed: a YAML file ({error!s:.200}).") from None
    if not isinstance(content, dict):
        raise ConfigError(f"cluster: {file} holds no mapping. Allowed: {', '.join(kind.model_fields)}.")
    return content


def _validate(content: dict[str, Any], kind: type[Cluster]) -> Cluster:
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        found = [finding(e) for e in error.errors()]
        raise ConfigError("\n".join(f"cluster{': ' if f.startswith('unknown') else '.'}{f}" for f in found)) from None
