"""What can be known before anything starts: are the files there, the functions in them, the keys of verl's config."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

from mrpo.config.recipes import Recipe
from mrpo.config.run import RunConfig
from mrpo.errors import ConfigError, unknown_name


def check_files(config: RunConfig, recipe: Recipe, prepared: Path) -> None:
    """Every file that the config names exists, unless the recipe's prepare script is still to make it."""
    if config.prepare is not None and not (recipe.folder / config.prepare).is_file():
        raise ConfigError(f"prepare: no such file: {recipe.folder / config.prepare}")
    named = [
        *((f"data.train_files[{i}]", file) for i, file in enumerate(config.data.train_files)),
        *((f"data.val_files[{i}]", file) for i, file in enumerate(config.data.val_files)),
    ]
    if config.model.path.startswith((".", "/", "~")):
        named.append(("model.path", config.model.path))
    for field, file in named:
        path = Path(file).expanduser()
        to_be_made = config.prepare is not None and path.is_relative_to(prepared) and not prepared.exists()
        if not path.exists() and not to_be_made:
            raise ConfigError(f"{field}: no such file: {file}")
    for name, reward in config.rewards.items():
        check_function(f"rewards.{name}.function", reward.function, recipe.folder)


def check_function(field: str, given: str, folder: Path) -> None:
    """``FILE.py:NAME`` or ``package.module:NAME`` names something that its source defines; nothing is executed."""
    module, _, name = given.partition(":")
    if not name.isidentifier():
        raise ConfigError(f"{field}: given {given!r}, allowed: FILE.py:NAME or package.module:NAME.")
    if module.endswith(".py"):
        source = folder / module
        if not source.is_file():
            raise ConfigError(f"{field}: no such file: {source}")
    else:
        try:
            spec = importlib.util.find_spec(module)
        except (ModuleNotFoundError, ValueError):
            spec = None
        if spec is None or spec.origin is None:
            raise ConfigError(f"{field}: no module named {module!r}.")
        source = Path(spec.origin)
    defined = _top_level_names(source, field)
    if name not in defined:
        raise unknown_name(f"{field} (in {source.name})", name, defined)


def _top_level_names(source: Path, field: str) -> list[str]:
    try:
        tree = ast.parse(source.read_text(), str(source))
    except SyntaxError as error:
        raise ConfigError(f"{field}: {source.name} line {error.lineno}: {error.msg}") from None
    names: list[str] = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign):
            names += [target.id for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names += [alias.asname or alias.name for alias in node.names]
    return [name for name in names if not name.startswith("_")]
