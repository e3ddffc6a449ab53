"""The templates in the folder ``launch``, which comes with the package."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mrpo.resources import folder

FOLDER = folder("launch")


def render(template: str, values: dict[str, Any]) -> str:
    """The text that a template becomes. A name that it uses and nobody gives is an error, never an empty string."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(values)
