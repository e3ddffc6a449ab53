"""Recipes: folders that hold a config, its rewards and its prepare script, found by name.

A recipe is named (``quickstart``), may have variants (``quickstart/gpu`` is ``gpu.yaml`` in that folder; the default is
``config.yaml``), or is given as a path. Names are looked up in ``./recipes``, then among the recipes that come
with the package.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

from mrpo.errors import ConfigError, unknown_name
from mrpo.resources import folder

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


class RecipeEntry(NamedTuple):
    """A recipe in the list of all that can be named."""

    name: str
    variants: tuple[str, ...]
    summary: str
    """The title of its README, without its name; where there is none, the first sentence of config.yaml's comment."""
    folder: Path


def recipe_roots() -> list[Path]:
    return [Path.cwd() / "recipes", folder("recipes")]


def list_recipes() -> list[RecipeEntry]:
    """All recipes that can be named from here, by name. One in ``./recipes`` hides the package's of the same name.

    >>> [entry.variants for entry in list_recipes() if entry.name == "quickstart"]
    [('mixed',)]
    """
    found: dict[str, RecipeEntry] = {}
    for root in recipe_roots():
        for file in root.glob(f"*/{DEFAULT_VARIANT}.yaml"):
            variants = sorted(other.stem for other in file.parent.glob("*.yaml") if other != file)
            entry = RecipeEntry(file.parent.name, tuple(variants), _summary(file), file.parent)
            found.setdefault(entry.name, entry)
    return [found[name] for name in sorted(found)]


def recipe_names() -> list[str]:
    return [entry.name for entry in list_recipes()]


def find_recipe(given: str) -> Recipe:
    """The recipe that ``given`` names. Raises ConfigError with the names there are."""
    path = Path(given).expanduser()
    for place, variant in [(path, DEFAULT_VARIANT), (path.parent, path.stem)]:
        for root in [Path.cwd(), *recipe_roots()]:
            recipe = Recipe((root / place).resolve(), variant)
            if recipe.file.is_file():
                return recipe
    for root in recipe_roots():
        if (root / path.parent / f"{DEFAULT_VARIANT}.yaml").is_file() and len(path.parts) == 2:
            variants = [file.stem for file in (root / path.parent).glob("*.yaml")]
            raise unknown_name(f"variant of recipe {path.parent}", path.name, variants)
    if len(path.parts) > 1:
        raise ConfigError(f"recipe: no config.yaml in {given}. Allowed: such a folder, or {', '.join(recipe_names())}.")
    raise unknown_name("recipe", given, recipe_names())


def copy_recipe(name: str, target: Path) -> Path:
    """Copy the whole folder of a recipe, to change it. ``mrpo train recipe=TARGET`` trains the copy.

    Args:
        name: as in ``recipe=``; of a variant, the folder that it is in.
        target: a folder that isn't there yet, or is empty.

    Returns:
        The copy, as an absolute path.

    Raises:
        ConfigError: there is no such recipe, or ``target`` is taken; nothing has been written.
    """
    source, target = find_recipe(name).folder, require_new(target)
    if target.is_relative_to(source):
        raise ConfigError(f"target: given {target}, which is in the recipe itself. Allowed: a folder outside {source}.")
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    return target


def require_new(target: Path) -> Path:
    """The absolute path of a folder that isn't there yet, or is empty. Raises ConfigError."""
    target = target.expanduser().resolve()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"target: given {target}, which isn't an empty folder. Allowed: a new or an empty folder.")
    return target


def _summary(config: Path) -> str:
    readme = config.with_name("README.md")
    title = (
        next(iter(readme.read_text(encoding="utf-8", errors="replace").splitlines()), "") if readme.is_file() else ""
    )
    if title.startswith("# "):
        return title.removeprefix("# ").removeprefix(f"{config.parent.name}: ").strip()
    comment = []
    for line in config.read_text(encoding="utf-8", errors="replace").splitlines():
        if not line.startswith("#"):
            break
        comment.append(line.lstrip("# "))
    return " ".join(comment).partition(". ")[0].rstrip(".")
