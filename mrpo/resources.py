"""Folders that come with the package and are read as files, ``recipes`` and ``launch``; and where caches lie.

In a checkout they lie beside the package; a wheel has them inside it, where ``setup.py`` copies them.
"""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

from mrpo.errors import unknown_name

FOLDERS = ("launch", "recipes")


def folder(name: str) -> Path:
    """Where the shipped folder ``name`` is, whether mrpo runs from a wheel or from a checkout.

    Raises:
        ConfigError: there is no such folder.
        FileNotFoundError: this installation lacks it.

    >>> (folder("recipes") / "quickstart" / "config.yaml").is_file()
    True
    """
    if name not in FOLDERS:
        raise unknown_name("resources", name, FOLDERS)
    package = Path(str(files("mrpo")))
    places = [package / "_resources" / name, package.parent / name]
    for place in places:
        if place.is_dir():
            return place
    raise FileNotFoundError(f"mrpo's folder {name}: neither {places[0]} nor {places[1]}; install mrpo again.")


def cache_root() -> Path:
    """Where what can be made again is kept between runs."""
    return Path(os.environ.get("MRPO_CACHE", Path.home() / ".cache" / "mrpo"))
