"""From the file of ``cluster=FILE.yaml`` to a typed cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from mrpo.config.base import StrictModel
from mrpo.config.load import finding
from mrpo.errors import ConfigError

Cluster = TypeVar("Cluster", bound=StrictModel)


def load_cluster(file: str | None, kind: type[Cluster]) -> Cluster:
    """The cluster that ``file`` describes; without a file, all defaults.

    Raises:
        ConfigError: no such file, no YAML, or a wrong setting, named as ``cluster.FIELD``.
    """
    content: Any = {}
    if file is not None:
        try:
            content = yaml.safe_load(Path(file).expanduser().read_text(encoding="utf-8")) or {}
        except OSError as error:
            raise ConfigError(f"cluster: given {file}, allowed: a YAML file ({error.strerror}).") from None
        except yaml.YAMLError as error:
            raise ConfigError(f"cluster: {file} is no YAML: {error}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"cluster: {file} holds no mapping. Allowed: {', '.join(kind.model_fields)}.")
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        found = [finding(e) for e in error.errors()]
        raise ConfigError("\n".join(f"cluster{': ' if f.startswith('unknown') else '.'}{f}" for f in found)) from None
