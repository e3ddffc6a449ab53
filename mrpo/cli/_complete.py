"""What the shell completes: recipes, settings and their values, and runs. See ``mrpo --install-completion``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

import typer

if TYPE_CHECKING:
    from pydantic import BaseModel


def complete_override(context: typer.Context, incomplete: str) -> list[str]:
    """``recipe=NAME`` of the recipes there are, ``section.field=`` of the configuration, and a field's values."""
    before = [word for words in context.params.values() if isinstance(words, list) for word in words]
    rewards = rewards_of(recipe_in(before))
    if before[-2:-1] != ["="] and not incomplete and before and (values := complete_value(before[-1], "", rewards)):
        return values  # bash takes an override apart at its "=", and asks what comes after the name
    if len(before) > 1 and before[-1] == "=":
        return complete_value(before[-2], incomplete, rewards)
    key, is_set, value = incomplete.partition("=")
    if is_set:
        return [f"{key}={text}" for text in complete_value(key, value, rewards)]
    return [text for text in ["recipe=", *complete_setting(incomplete, rewards)] if text.startswith(incomplete)]


def complete_setting(incomplete: str, rewards: Sequence[str] = ()) -> list[str]:
    """Names of settings, up to their ``=``; those of each of ``rewards`` among them."""
    return [f"{name}=" for name in settings(rewards) if name.startswith(incomplete)]


def complete_value(key: str, incomplete: str, rewards: Sequence[str] = ()) -> list[str]:
    """What ``key`` may be set to, where that is one of a few."""
    if key == "recipe":
        return complete_recipe(incomplete)
    return [text for text in choices(settings(rewards).get(key)) if text.startswith(incomplete)]


def recipe_in(words: Sequence[str]) -> str | None:
    """The recipe that is given, in one word or, as bash takes it apart, in three.

    >>> recipe_in(["seed=1", "recipe=mine"]), recipe_in(["recipe", "=", "mine", "seed"]), recipe_in(["seed=1"])
    ('mine', 'mine', None)
    """
    line = " ".join(words).replace(" = ", "=").split()
    return next((word.removeprefix("recipe=") for word in line if word.startswith("recipe=")), None)


def rewards_of(recipe: str | None) -> list[str]:
    """Names of a recipe's rewards, in order, as its files have them; none where there are no such files.

    >>> rewards_of("quickstart")
    ['correct', 'tagged', 'short']
    """
    import yaml

    from mrpo.config.recipes import find_recipe
    from mrpo.errors import ConfigError

    if recipe is None:
        return []
    found: dict[str, None] = {}
    try:
        folder, left, seen = find_recipe(recipe).folder, [find_recipe(recipe).variant], set[str]()
        while left:
            name = left.pop()
            if name in seen or name == "_self_":
                continue
            seen.add(name)
            content = yaml.safe_load((folder / f"{name}.yaml").read_text(encoding="utf-8"))
            left += [base for base in content.get("defaults", ()) if isinstance(base, str)]
            found = dict.fromkeys(content.get("rewards") or ()) | found
    except (ConfigError, OSError, ValueError, yaml.YAMLError, AttributeError, TypeError):
        return []  # what is wrong with it, the command itself says
    return [name for name in found if isinstance(name, str)]


def complete_recipe(incomplete: str) -> list[str]:
    """Names of recipes and their variants."""
    from mrpo.config.recipes import list_recipes

    names = [name for entry in list_recipes() for name in (entry.name, *(f"{entry.name}/{v}" for v in entry.variants))]
    return [name for name in names if name.startswith(incomplete)]


def settings(rewards: Sequence[str] = ()) -> dict[str, Any]:
    """Dotted names of all settings of a run with these rewards, with their types."""
    from mrpo.config.allocators import BUDGET
    from mrpo.config.estimators import ALGORITHM
    from mrpo.config.run import RewardConfig, RunConfig

    found = dict(fields(RunConfig))
    for reward in rewards:
        found |= dict(fields(RewardConfig, f"rewards.{reward}."))
    for section in (ALGORITHM, BUDGET):
        for model in section.methods.values():
            found |= dict(fields(model, f"{section.field}."))
        found[f"{section.field}.{section.key}"] = Literal[tuple(section.methods)]
    return dict(sorted(found.items()))


def fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names of all settings of a model, with their types."""
    for name, field in model.model_fields.items():
        section = _section(field.annotation)
        if section is None:
            yield f"{prefix}{name}", field.annotation
        else:
            yield from fields(section, f"{prefix}{name}.")


def choices(annotation: Any) -> list[str]:
    """The values of a type that has few of them, as a command line has them.

    >>> choices(Literal["keep", "mask"]), choices(bool | None), choices(int)
    (['keep', 'mask'], ['true', 'false', 'null'], [])
    """
    if get_origin(annotation) is Literal:
        return [str(value) for value in get_args(annotation)]
    if get_origin(annotation) in (Union, UnionType):
        kinds = get_args(annotation)
        found = [text for kind in kinds if kind is not type(None) for text in choices(kind)]
        return [*found, "null"] if found and type(None) in kinds else found
    return ["true", "false"] if annotation is bool else []


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
