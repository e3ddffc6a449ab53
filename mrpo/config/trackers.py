"""verl's tracking backends: which there are, and what each needs installed. verl itself isn't imported for it."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from typing import Annotated

from pydantic import AfterValidator

from mrpo.errors import ConfigError, unknown_name

TRACKERS: Mapping[str, str | None] = {
    "wandb": "wandb",
    "mlflow": "mlflow",
    "swanlab": "swanlab",
    "vemlp_wandb": "volcengine_ml_platform",
    "tensorboard": "tensorboard",
    "console": None,
    "clearml": "clearml",
    "trackio": "trackio",
    "file": None,
    "rl_insight": "rl_insight",
}
"""Each backend, and the package that it imports."""


def _known(name: str) -> str:
    if name not in TRACKERS:
        raise unknown_name("", name, TRACKERS)
    return name


Tracker = Annotated[str, AfterValidator(_known)]


def require_installed(trackers: Iterable[str]) -> None:
    """Raises ConfigError if a backend's package isn't installed here.

    >>> require_installed(["console", "file"])
    """
    for name in trackers:
        package = TRACKERS[name]
        if package is not None and importlib.util.find_spec(package) is None:
            here = [other for other, needed in TRACKERS.items() if needed is None or importlib.util.find_spec(needed)]
            raise ConfigError(
                f"trainer.logger: given {name}, whose package {package} is not installed. Allowed here: "
                f"{', '.join(here)}; or install it."
            )
