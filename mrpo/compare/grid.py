"""A grid of overrides: every combination of the values that settings are given, as cells to run.

A grid's YAML file is a mapping of settings to a value, or to a list of values to go through (a list as a value is a
list in that list); or several such mappings in a list, whose cells are put one behind the other::

    algorithm.estimator: [grpo, gdpo]
    seed: [0, 1, 2]
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mrpo.compare.groups import short_names
from mrpo.config.flatten import flatten
from mrpo.config.overrides import as_override, expand, parse
from mrpo.errors import ConfigError, usable

MAX_NAME = 150
"""Letters of a cell's name, which is a folder's."""
TAKEN = {"run_dir": "--out", "trainer.experiment_name": "the cell's name"}
"""Settings that a grid decides itself, and by what."""


@dataclass(frozen=True)
class Cell:
    """One run of a grid."""

    name: str
    overrides: tuple[str, ...]
    """All but ``run_dir``."""


Grid = list[list[str]]
"""For each setting, the overrides that give it one of its values."""


def cells_of(words: Sequence[str]) -> list[Cell]:
    """All cells of a command line, those of the first seed first, so that what an early end leaves can be compared.

    Args:
        words: ``recipe=NAME``, overrides with one value or several, and grids' YAML files.

    >>> [cell.name for cell in cells_of(["recipe=quickstart", "algorithm.estimator=grpo,gdpo", "seed=0,1"])]
    ['estimator=grpo,seed=0', 'estimator=gdpo,seed=0', 'estimator=grpo,seed=1', 'estimator=gdpo,seed=1']

    Raises:
        ConfigError: a word is neither an override nor a file, or two cells would be the same.
    """
    given: list[list[str]] = []
    grids: list[Grid] = [[]]
    for word in words:
        if word.endswith((".yaml", ".yml")) and "=" not in word:
            grids = [[*before, *more] for before, more in itertools.product(grids, _of_file(Path(word)))]
        else:
            given.append(expand(word))
    return _named([one for grid in grids for one in itertools.product(*given, *grid)])


def _of_file(path: Path) -> list[Grid]:
    with usable("grid", path):
        text = path.read_text(encoding="utf-8")
    try:
        content: Any = OmegaConf.to_container(OmegaConf.create(text), resolve=False) if text.strip() else None
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"grid: {path} is no YAML ({str(error).splitlines()[0]}).") from None
    grids = content if isinstance(content, list) else [content]
    if not grids or not all(isinstance(grid, Mapping) and grid for grid in grids):
        raise ConfigError(f"grid: {path} holds no grid. Allowed: settings with lists of values, or a list of those.")
    return [[_values(key, value) for key, value in flatten(grid)] for grid in grids]


def _values(key: str, value: Any) -> list[str]:
    if value == []:
        raise ConfigError(f"grid: {key} has no values. Allowed: one value, or a list of some.")
    return [as_override(key, one) for one in (value if isinstance(value, list) else [value])]


def _named(combinations: Sequence[tuple[str, ...]]) -> list[Cell]:
    values = [{str(parse(text).key_or_group): text for text in one} for one in combinations]
    for combination, texts in zip(combinations, values, strict=True):
        if len(texts) < len(combination):
            given = [str(parse(text).key_or_group) for text in combination]
            raise ConfigError(
                f"grid: {next(key for key in given if given.count(key) > 1)} is given twice. Allowed: once."
            )
        for key in TAKEN.keys() & texts.keys():
            raise ConfigError(f"{key}: is decided by {TAKEN[key]} in a grid, so it can't be given.")
    keys = dict.fromkeys(key for texts in values for key in texts)
    varied = [key for key in keys if len({texts.get(key) for texts in values}) > 1]
    short = short_names(varied)
    cells: dict[str, Cell] = {}
    for texts in sorted(values, key=lambda texts: _place_of_seed(texts, values)):
        of_cell = [(short[key], _shown(texts[key])) for key in varied if key in texts]
        name = ",".join(f"{key}={value}" for key, value in sorted(of_cell, key=lambda pair: pair[0] == "seed")) or "run"
        name = re.sub(r"[^\w.=,+-]+", "-", name)[:MAX_NAME]
        if name in cells:
            raise ConfigError(
                f"grid: two cells would be called {name}. Allowed: values that differ in letters or digits."
            )
        cells[name] = Cell(name, tuple(texts.values()))
    return list(cells.values())


def _shown(text: str) -> str:
    return "unset" if text.startswith("~") else text.partition("=")[2].strip("'\"")


def _place_of_seed(texts: Mapping[str, str], values: Sequence[Mapping[str, str]]) -> int:
    seeds = list(dict.fromkeys(one.get("seed", "") for one in values))
    return seeds.index(texts.get("seed", ""))


def is_grid(words: Sequence[str]) -> bool:
    """Whether the words of ``mrpo compare`` name a recipe, rather than runs."""
    return any(word.startswith("recipe=") for word in words)
