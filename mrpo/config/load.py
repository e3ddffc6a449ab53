"""From a command line of Hydra overrides to a checked RunConfig, without importing torch, Ray or verl.

Hydra composes the recipe's YAML (``defaults`` lists and interpolation included) with the overrides; pydantic gives
types and defaults; ``check`` looks at what is on disk. Everything that can be refused is refused here.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mrpo.config.allocators import BUDGET
from mrpo.config.base import FieldError, StrictModel, as_yaml, config_errors
from mrpo.config.estimators import ALGORITHM
from mrpo.config.flatten import flatten
from mrpo.config.method_options import MethodSection
from mrpo.config.overrides import INSTEAD_OF_HYDRA, parse, settable, take
from mrpo.config.recipes import DEFAULT_VARIANT, Recipe, find_recipe
from mrpo.config.run import RunConfig
from mrpo.errors import ConfigError, usable
from mrpo.resources import cache_root

SECTIONS = (ALGORITHM, BUDGET)
"""Sections whose options depend on a method that one of their keys names."""


def _print(note: str) -> None:
    print(f"mrpo: {note}", file=sys.stderr)


def load_run_config(overrides: Sequence[str], note: Callable[[str], None] = _print) -> tuple[RunConfig, Recipe]:
    """Resolve ``recipe=NAME key=value …``.

    Args:
        note: gets a line for each section in which something that the recipe sets was left out, because the overrides
            choose another method. By default it is printed to stderr.

    Raises:
        ConfigError: something is wrong; the message has a line for each finding.
    """
    given, rest = take(overrides, "recipe")
    if "recipe" not in given:
        raise ConfigError("recipe: not given. Say recipe=NAME.")
    with usable("recipe", given["recipe"]):
        recipe = find_recipe(str(given["recipe"]))
    return _resolve(recipe, rest, note, {"recipe": recipe.name}), recipe


def load_saved_config(file: Path, overrides: Sequence[str], note: Callable[[str], None] = _print) -> RunConfig:
    """The resolved config that a run has left in ``config.yaml``, with overrides; else as ``load_run_config``."""
    return _resolve(Recipe(file.parent.resolve(), DEFAULT_VARIANT), overrides, note)


def _resolve(
    recipe: Recipe, overrides: Sequence[str], note: Callable[[str], None], more: dict[str, Any] | None = None
) -> RunConfig:
    parsed = [parse(text) for text in overrides]
    try:
        _refuse_hydras_section(recipe)
        content = _compose(recipe, [settable(text) for text in overrides])
        if isinstance(content.get("recipe"), dict):
            raise ConfigError(f"recipe: given {as_yaml(content['recipe'])}, allowed: a name or a folder (recipe=NAME).")
        content |= more or {}
        notes = [_switch_method(section, recipe, content, parsed) for section in SECTIONS]
        config = validate(content)
        _require_effect(config, parsed)
    except RecursionError:
        raise ConfigError(f"{recipe.file}: is nested too deeply, or its defaults lead back to it.") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{recipe.file}: is not UTF-8 ({error}).") from None
    except OSError as error:
        raise ConfigError(f"{error.filename or recipe.file}: can't be read: {error.strerror or error}.") from None
    for left_out in filter(None, notes):
        note(left_out)
    return config


def _switch_method(section: MethodSection, recipe: Recipe, content: dict[str, Any], overrides: list[Override]) -> str:
    """Where ``overrides`` choose another method than the recipe, leave out of ``content`` what the recipe sets for its
    own. Returns a note of it, empty if nothing was left out."""
    set_here = _options_set(section.field, overrides)
    given = content.get(section.field)
    if section.key not in set_here or not isinstance(given, dict):
        return ""
    of_recipe = _composed(recipe, []).get(section.field) or {}
    before = of_recipe.get(section.key, section.default)
    content[section.field], left_out = section.switch(given, before, set_here)
    return left_out


def _options_set(field: str, overrides: list[Override]) -> set[str]:
    """Keys of the section ``field`` that the command line sets, one by one or as a mapping."""
    options: set[str] = set()
    for override in overrides:
        section, _, option = str(override.key_or_group).partition(".")
        if section != field or override.is_delete():
            continue
        if option:
            options.add(option.partition(".")[0])
        elif isinstance(value := override.value(), dict):
            options |= {str(key) for key in value}
    return options


def _refuse_hydras_section(recipe: Recipe) -> None:
    for file in {recipe.file, recipe.folder / f"{DEFAULT_VARIANT}.yaml"}:
        if file.exists() and re.search(r"^(['\"]?)hydra\1\s*:", file.read_text(encoding="utf-8"), re.MULTILINE):
            raise ConfigError(f"{file}: hydra: has no effect here. {INSTEAD_OF_HYDRA}")


def _require_effect(config: RunConfig, overrides: list[Override]) -> None:
    """Refuse an override that the value of another field leaves without effect."""
    for override in overrides:
        key, value = str(override.key_or_group), None if override.is_delete() else override.value()
        below = flatten(value, f"{key}.") if isinstance(value, dict) else [(key, value)]
        for path, option in () if override.is_delete() else (name.rpartition(".")[::2] for name, _ in below):
            section: Any = config
            for part in filter(None, path.split(".")):
                section = section.get(part) if isinstance(section, dict) else getattr(section, part, None)
            if isinstance(section, StrictModel):
                try:
                    section.require_effect(option)
                except FieldError as error:
                    raise ConfigError(error.at(path)) from None


def validate(content: dict[str, Any]) -> RunConfig:
    """RunConfig of a plain mapping; pydantic's findings become one ConfigError, a line each."""
    for name, text in flatten(content):
        if isinstance(text, str) and ("\0" in text or text != text.encode(errors="replace").decode()):
            raise ConfigError(f"{name}: given {text!r:.200}, allowed: text without NUL and unpaired surrogates.")
    with config_errors():
        return RunConfig.model_validate(content)


def _compose(recipe: Recipe, overrides: list[str]) -> dict[str, Any]:
    named_by: list[Any] = []

    def prepared() -> str:
        if not named_by:
            raise ConfigError("${prepared:} is named by seed and prepare, so neither can refer to it")
        return str(prepared_folder(recipe, *named_by))

    OmegaConf.register_new_resolver("prepared", prepared, replace=True)
    try:
        composed = _composed(recipe, overrides)
        named_by += composed.get("prepare"), _seed(composed)
        content = OmegaConf.to_container(composed, resolve=True)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        place = "override" if str(error).startswith("Error merging override") else recipe.file
        raise ConfigError(f"{place}: {_reason(error)}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{recipe.file}: holds no mapping.")
    return {str(key): value for key, value in content.items()}


def _reason(error: BaseException) -> str:
    """What Hydra and OmegaConf say, with the cause that they leave to a traceback."""
    text, cause = str(error).strip(), str(error.__cause__ or "").strip().partition("\n")[0]
    return ": ".join(part for part in (text or type(error).__name__, "" if cause in text else cause) if part)


def _seed(composed: DictConfig) -> int:
    """The seed that names what ``prepare`` makes."""
    given = composed.get("seed", 0)
    if isinstance(given, bool) or not isinstance(given, int):
        raise ConfigError(f"seed: given {given!r:.80}, allowed: a whole number.")
    return given


def _composed(recipe: Recipe, overrides: list[str]) -> DictConfig:
    with initialize_config_dir(str(recipe.folder), version_base=None):
        return compose(recipe.variant, overrides)


def prepared_folder(recipe: Recipe, command: str | None, seed: int) -> Path:
    """Where ``prepare`` puts model and data: a cache folder named by all that decides what they are, the command, the
    seed, the recipe's scripts and its sample, and the package that the scripts are made of."""
    digest = hashlib.sha256(f"{command} {seed}".encode())
    package = Path(__file__).parents[1] / "prepare"
    for folder, pattern in ((recipe.folder, "*.py"), (recipe.folder, "sample/**/*.jsonl"), (package, "*.py")):
        for file in sorted(folder.glob(pattern)):
            digest.update(file.read_bytes())
    return cache_root() / f"{recipe.folder.name}-{digest.hexdigest()[:12]}"
