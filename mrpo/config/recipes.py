"""Recipes: folders that hold a config, its rewards and its prepare script, found by name.

A recipe is named (``quickstart``), may have variants (``quickstart/gpu`` is ``gpu.yaml`` in that folder; the default is
``config.yaml``), or is given as a path. Names are looked up in ``./recipes``, then in the recipes beside the package.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from mrpo.errors import ConfigError, unknown_name

DEFAULT_VARIANT = "config"


class Recipe(NamedTuple):
    """Where a recipe's config is."""

    folder: Path
    variant: str

    @property
    def file(self) -> Path:
        return self.folder / f"{self.variant}.yaml"

    @property
    def name(self) -> str:
        return self.folder.name if self.variant == DEFAULT_VARIANT else f"{self.folder.name}/{self.variant}"


def recipe_roots() -> list[Path]:
    return [Path.cwd() / "recipes", Path(__file__).parents[2] / "recipes"]


def recipe_names() -> list[str]:
    return sorted({file.parent.name for root in recipe_roots() for file in root.glob(f"*/{DEFAULT_VARIANT}.yaml")})


def find_recipe(given: str) -> Recipe:
    """The recipe that ``given`` names. Raises ConfigError with the names there are."""
    path = Path(given).expanduser()
    for folder, variant in [(path, DEFAULT_VARIANT), (path.parent, path.stem)]:
        for root in [Path.cwd(), *recipe_roots()]:
            recipe = Recipe((root / folder).resolve(), variant)
            if recipe.file.is_file():
                return recipe
    for root in recipe_roots():
        if (root / path.parent / f"{DEFAULT_VARIANT}.yaml").is_file() and len(path.parts) == 2:
            variants = [file.stem for file in (root / path.parent).glob("*.yaml")]
            raise unknown_name(f"variant of recipe {path.parent}", path.name, variants)
    if len(path.parts) > 1:
        raise ConfigError(f"recipe: no config.yaml in {given}. Allowed: such a folder, or {', '.join(recipe_names())}.")
    raise unknown_name("recipe", given, recipe_names())
