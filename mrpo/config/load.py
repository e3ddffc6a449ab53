"""From a command line of Hydra overrides to a checked RunConfig, without importing torch, Ray or verl.

Hydra composes the recipe's YAML (``defaults`` lists and interpolation included) with the overrides; pydantic gives
types and defaults; ``check`` looks at what is on disk. Everything that can be refused is refused here.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

from mrpo.config.recipes import Recipe, find_recipe
from mrpo.config.run import RunConfig
from mrpo.errors import ConfigError


def load_run_config(overrides: list[str]) -> tuple[RunConfig, Recipe]:
    """Resolve ``recipe=NAME key=value …``. Raises ConfigError with one message for what is wrong."""
    recipe_name, rest = _split_recipe(overrides)
    recipe = find_recipe(recipe_name)
    content = _compose(recipe, rest)
    content["recipe"] = recipe.name
    return validate(content), recipe


def validate(content: dict[str, Any]) -> RunConfig:
    """RunConfig of a plain mapping; pydantic's findings become one ConfigError, a line each."""
    try:
        return RunConfig.model_validate(content)
    except ValidationError as error:
        raise ConfigError("\n".join(finding(e) for e in error.errors())) from None


def finding(error: Any) -> str:
    field = ".".join(str(part) for part in error["loc"])
    cause = error.get("ctx", {}).get("error")
    if isinstance(cause, ConfigError):
        return f"{field}: {cause}" if field and not str(cause).startswith(field) else str(cause)
    if error["type"] == "missing":
        return f"{field}: is required and not set."
    return f"{field}: given {error['input']!r}. {error['msg']}."


def _split_recipe(overrides: list[str]) -> tuple[str, list[str]]:
    """The value of ``recipe=``, and every other override as one that may set a key the YAML doesn't mention."""
    recipe, rest = None, []
    try:
        parsed = OverridesParser.create().parse_overrides(overrides)
    except HydraException as error:
        raise ConfigError(f"override: {str(error).splitlines()[0]}. Allowed: key=value in Hydra's grammar.") from None
    for override in parsed:
        if override.is_sweep_override():
            raise ConfigError(f"{override.key_or_group}: given a sweep ({override.input_line}), allowed: one value.")
        if override.key_or_group == "recipe":
            recipe = str(override.value())
        elif override.is_delete():
            rest.append(str(override.input_line))
        else:
            rest.append("++" + str(override.input_line).lstrip("+"))
    if recipe is None:
        raise ConfigError("recipe: not given. Say recipe=NAME.")
    return recipe, rest


def _compose(recipe: Recipe, overrides: list[str]) -> dict[str, Any]:
    OmegaConf.register_new_resolver("prepared", lambda: str(prepared_folder(recipe, script, seed)), replace=True)
    try:
        with initialize_config_dir(str(recipe.folder), version_base=None):
            composed = compose(recipe.variant, overrides)
        seed, script = int(composed.get("seed", 0)), composed.get("prepare")
        content = OmegaConf.to_container(composed, resolve=True)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        raise ConfigError(f"{recipe.file}: {error}") from None
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def prepared_folder(recipe: Recipe, command: str | None, seed: int) -> Path:
    """Where ``prepare`` puts model and data: a cache folder named by all that decides what they are, the command, the
    seed, the recipe's scripts and its sample, and the package that the scripts are made of."""
    digest = hashlib.sha256(f"{command} {seed}".encode())
    package = Path(__file__).parents[1] / "prepare"
    for folder, pattern in ((recipe.folder, "*.py"), (recipe.folder, "sample/**/*.jsonl"), (package, "*.py")):
        for file in sorted(folder.glob(pattern)):
            digest.update(file.read_bytes())
    root = Path(os.environ.get("MRPO_CACHE", Path.home() / ".cache" / "mrpo"))
    return root / f"{recipe.folder.name}-{digest.hexdigest()[:12]}"
