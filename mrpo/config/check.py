"""What can be known before anything starts: do files and reward functions exist, do these take their options."""

from __future__ import annotations

import ast
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mrpo.config.agent import AgentConfig
from mrpo.config.data import ModelConfig
from mrpo.config.data_files import is_hub_name, split_of
from mrpo.config.model_code import check_trust
from mrpo.config.recipes import Recipe
from mrpo.config.reward_model import RewardModelConfig
from mrpo.config.run import RewardConfig, RunConfig
from mrpo.errors import ConfigError, unknown_name
from mrpo.rewards.signatures import OURS, kind_of
from mrpo.rewards.source import file_of, library_bounds, library_needs, library_notes, library_seconds, source_of

SERVED_OPTIONS = {"url", "model"}
"""Options that a run sets itself where it serves the reward's model."""

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def check_files(config: RunConfig, recipe: Recipe, prepared: Path) -> None:
    """Every file that the config names exists, unless the recipe's prepare script is still to make it."""
    if config.prepare is not None:
        try:
            words = shlex.split(config.prepare)
        except ValueError as error:
            raise ConfigError(f"prepare: given {config.prepare!r:.80}, allowed: a command line ({error}).") from None
        script = recipe.folder / (words or [""])[0]
        if not script.is_file():
            raise ConfigError(f"prepare: no such file: {script}")
    named = [
        *((f"data.train_files[{i}]", file) for i, file in enumerate(config.data.train_files)),
        *((f"data.val_files[{i}]", file) for i, file in enumerate(config.data.val_files)),
        *(
            (f"{field}.path", model.path)
            for field, model in _models(config).items()
            if model.path.startswith((".", "/", "~")) or not model.path
        ),
    ]
    if nameless := [field for field, model in _models(config).items() if not model.path]:
        raise ConfigError(f"{nameless[0]}.path: given '', allowed: a folder, or a name on the hub.")
    for field, file in named:
        if field.startswith("data.") and split_of(file) is not None:
            continue  # found when its rows are read
        path = Path(file).expanduser()
        to_be_made = config.prepare is not None and path.is_relative_to(prepared) and not prepared.exists()
        if not path.exists() and not to_be_made:
            split = f". A data set of the hub is named with its split: {file}:train." if is_hub_name(file) else ""
            raise ConfigError(f"{field}: no such file: {file}{split if field.startswith('data.') else ''}")
    for field, model in _models(config).items():
        check_trust(field, model.path, model.trust_remote_code)
    check_rewards(config, recipe.folder)
    check_agent(config.rollout.agent, recipe.folder)


def check_rewards(config: RunConfig, folder: Path) -> None:
    """Each by ``check_reward``, and that there are the rewards whose scores others read."""
    alone = [name for name, reward in config.rewards.items() if reward.scope == "rollout"]
    for name, reward in config.rewards.items():
        check_reward(f"rewards.{name}", reward, folder)
        for other in library_needs(reward.function, reward.options_at(None)):
            if other not in alone:
                raise unknown_name(f"rewards.{name}.options (reward of scope rollout)", other, alone)


def check_agent(agent: AgentConfig, folder: Path) -> None:
    """The agent loop's classes and tools are defined where their names say. Nothing of them is executed."""
    for name, given in agent.own.items():
        field = "rollout.agent.loop" if name == agent.loop else f"rollout.agent.loops.{name}"
        found = _defined(field, given, folder)
        if found is not None and not _may_run(found):
            raise ConfigError(f"{field}: given {given!r}, allowed: a class with a method run, as AgentLoopBase's.")
    for number, given in enumerate(agent.tools):
        field = f"rollout.agent.tools[{number}]"
        found = _defined(field, given, folder)
        if isinstance(found, ast.ClassDef):
            raise ConfigError(f"{field}: given the class {found.name}, allowed: a function.")
        if found is not None and not ast.get_docstring(found):
            raise ConfigError(f"{field}: {found.name} has no docstring, by which the model knows what it is for.")


def _may_run(found: Definition) -> bool:
    """Whether it is a class that has a method ``run``, or may inherit one."""
    if not isinstance(found, ast.ClassDef):
        return False
    bases = {ast.unparse(base).rpartition(".")[2] for base in found.bases}
    return bool(bases - {"AgentLoopBase", "ABC"}) or any(getattr(node, "name", "") == "run" for node in found.body)


def reward_notes(config: RunConfig, here: bool) -> list[str]:
    """What a user of these rewards should know before the run; ``here``: which scores on this machine."""
    rewards = config.rewards.items()
    return [f"rewards.{name}: {note}" for name, reward in rewards for note in library_notes(reward.function, here)]


WITH_BATCH_NORM = ("dara", "gd2po", "gdpo", "rvpo", "sa_mrpo")
"""Estimators whose paper ends with a batch norm."""


def algorithm_notes(config: RunConfig) -> list[str]:
    """What a user of these settings together should know before the run."""
    given = config.algorithm
    normalizes = given.estimator in WITH_BATCH_NORM or (given.estimator, getattr(given, "form", "")) == ("saw", "gdpo")
    by_preset = given.batch_norm == "auto" and given.preset == "verl" and normalizes
    if (given.batch_norm == "token" or by_preset) and config.actor.loss_agg_mode == "seq-mean-token-mean":
        return [
            "actor.loss_agg_mode: seq-mean-token-mean with a batch norm that counts tokens makes responses shorter by "
            "itself where the longer ones do worse (docs/advantages.md); algorithm.batch_norm=sequence doesn't"
        ]
    return []


def _models(config: RunConfig) -> dict[str, ModelConfig | RewardModelConfig]:
    served = {f"rewards.{name}.model": reward.model for name, reward in config.rewards.items() if reward.model}
    return {"model": config.model, **served}


def check_reward(field: str, reward: RewardConfig, folder: Path) -> None:
    """The reward's function is defined where its name says, and takes its options. Nothing of it is executed."""
    definition = _defined(f"{field}.function", reward.function, folder)
    if definition is not None:
        _check_scope(field, definition, reward)
        _check_options(f"{field}.options", definition, reward)
    for step in (*reward.turning_points, None):
        _check_range(field, reward, reward.options_at(step))


def _defined(field: str, given: str, folder: Path) -> Definition | None:
    """What ``given`` names; None if its file only imports or assigns it. Raises ConfigError if there is no such."""
    try:
        name = source_of(given, folder, field).name
        return _definition(field, file_of(given, folder, field), name)
    except ConfigError:
        raise
    except (ImportError, OSError, ValueError, RecursionError) as error:  # no module's name; built in; a NUL or no UTF-8
        raise ConfigError(
            f"{field}: given {given!r:.200}, allowed: FILE.py:NAME or package.module:NAME ({error!s:.200})."
        ) from None


def _check_scope(field: str, definition: Definition, reward: RewardConfig) -> None:
    """A function with the parameters of the other scope is none of this one."""
    function: ast.AST | None = definition
    if isinstance(definition, ast.ClassDef):
        function = next((node for node in definition.body if getattr(node, "name", "") == "__call__"), None)
    if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
        return
    names = {argument.arg for argument in function.args.args}
    for scope, other in (("rollout", "group"), ("group", "rollout")):
        theirs = {"group": {"responses", "extras"}, "rollout": {"response", "extra"}}[other]
        if reward.scope == scope and theirs <= names:
            raise ConfigError(
                f"{field}.scope: given {scope}, while {definition.name} takes {' and '.join(sorted(theirs))}. "
                f"Allowed: {other}."
            )


def _check_range(field: str, reward: RewardConfig, options: Mapping[str, Any]) -> None:
    """A library reward stays within the declared range: a score outside would count as failed."""
    try:
        bounds = library_bounds(reward.function, options)
        seconds = library_seconds(reward.function, options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{field}.options: {error}.") from None
    if seconds is not None and reward.timeout <= seconds:
        raise ConfigError(
            f"{field}.timeout: given {reward.timeout:g}, allowed: above {seconds:g}, which {reward.function} may take "
            "with these options, or slow responses would fail instead of scoring low."
        )
    if bounds is not None and reward.range is not None:
        (low, high), (given_low, given_high) = bounds, reward.range
        if not given_low <= low <= high <= given_high:
            raise ConfigError(
                f"{field}.range: given [{given_low:g}, {given_high:g}], allowed: one that holds [{low:g}, {high:g}], "
                f"the scores of {reward.function} with these options."
            )


def _definition(field: str, source: Path, name: str) -> Definition | None:
    """The function or class that ``source`` defines as ``name``; None if it only imports or assigns it."""
    try:
        tree = ast.parse(source.read_text(), str(source))
    except SyntaxError as error:
        raise ConfigError(f"{field}: {source.name} line {error.lineno}: {error.msg}") from None
    defined: dict[str, Definition | None] = {}
    for node in tree.body:
        if isinstance(node, Definition):
            defined[node.name] = node
        elif isinstance(node, ast.Assign):
            defined |= {target.id: None for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.ImportFrom | ast.Import):
            defined |= {alias.asname or alias.name: None for alias in node.names}
    if name not in defined:
        raise unknown_name(f"{field} (in {source.name})", name, [n for n in defined if not n.startswith("_")])
    return defined[name]


def _check_options(field: str, definition: Definition, reward: RewardConfig) -> None:
    """``options`` are among the parameters, and none that has no default is missing."""
    if isinstance(definition, ast.ClassDef):
        inits = [node for node in definition.body if isinstance(node, ast.FunctionDef) and node.name == "__init__"]
        if not inits:
            return
        arguments, given_by_us = inits[0].args, 1  # self
    else:
        arguments, given_by_us = definition.args, 4  # prompt, response, ground_truth, extra
        if kind_of([argument.arg for argument in (*arguments.args, *arguments.kwonlyargs)]) != OURS:
            return
    positional = arguments.args[given_by_us:]
    names = [argument.arg for argument in (*positional, *arguments.kwonlyargs)]
    without = len(positional) - len(arguments.defaults)
    required = {argument.arg for argument in positional[: max(0, without)]} | {
        argument.arg
        for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        if not default
    }
    given = {*reward.options, *reward.scheduled_options, *(SERVED_OPTIONS if reward.model else ())}
    if arguments.kwarg is None:
        for option in sorted(given - {*names}):
            raise unknown_name(field, option, names, noun="option")
    if missing := sorted(required - given):
        raise ConfigError(
            f"{field}: {definition.name} needs {', '.join(missing)}. Given: {', '.join(given) or 'none'}."
        )
