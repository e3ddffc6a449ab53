"""What the shell completes: recipes, names of settings, and runs. See ``mrpo --install-completion``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin

import typer

if TYPE_CHECKING:
    from pydantic import BaseModel


def complete_override(context: typer.Context, incomplete: str) -> list[str]:
    """``recipe=NAME`` of the recipes there are, and ``section.field=`` of the configuration."""
    before = [word for words in context.params.values() if isinstance(words, list) for word in words]
    if before[-2:] == ["recipe", "="]:  # bash takes an override apart at its "="
        return complete_recipe(incomplete)
    recipes = [f"recipe={name}" for name in complete_recipe("")]
    return [text for text in [*recipes, *complete_setting(incomplete)] if text.startswith(incomplete)]


def complete_setting(incomplete: str) -> list[str]:
    """Names of settings, up to their ``=``."""
    from mrpo.config.run import RunConfig

    return [f"{name}=" for name in fields(RunConfig) if name.startswith(incomplete)]


def complete_recipe(incomplete: str) -> list[str]:
    """Names of recipes and their variants."""
    from mrpo.config.recipes import list_recipes

    names = [name for entry in list_recipes() for name in (entry.name, *(f"{entry.name}/{v}" for v in entry.variants))]
    return [name for name in names if name.startswith(incomplete)]


def fields(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Dotted names of all settings of a model."""
    for name, field in model.model_fields.items():
        section = _section(field.annotation)
        if section is None:
            yield f"{prefix}{name}"
        else:
            yield from fields(section, f"{prefix}{name}.")


def _section(annotation: Any) -> type[BaseModel] | None:
    """The model that a field holds, if it holds just one."""
    from pydantic import BaseModel  # here, so that a command's help needn't wait for it

    if get_origin(annotation) in (Union, UnionType):
        kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
        annotation = kinds[0] if len(kinds) == 1 else None
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def complete_run(incomplete: str) -> list[str]:
    """Names of runs below ``runs``."""
    runs = Path("runs")
    names = sorted(entry.name for entry in runs.iterdir() if entry.is_dir()) if runs.is_dir() else []
    return [name for name in names if name.startswith(incomplete)]
