"""A run as a comparison sees it: per-step series by measure, how far it got by each count, and how it ended.

Shapes: T recorded steps. A step without a value has NaN, in a measure; a count that isn't known of every step is left
out as a whole, since a sum with holes would be too low.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml

from mrpo.config.flatten import flatten
from mrpo.errors import ConfigError
from mrpo.evaluation.compare import LENGTH
from mrpo.evaluation.statistics import FloatArray
from mrpo.record.jsonl import Record
from mrpo.record.metrics import number, rename
from mrpo.record.phase import ENDS, Phase
from mrpo.record.run_folder import RunFolder

Axis = Literal["steps", "rollouts", "tokens", "seconds"]
AXES: tuple[Axis, ...] = ("steps", "rollouts", "tokens", "seconds")
"""By what runs are aligned: steps, rollouts trained on, tokens of prompts and responses, seconds of training steps."""

_REWARDS = (re.compile(r"reward/([^/]+)/mean"), re.compile(r"(?:train/)?rewards/([^/]+)(?:/mean)?"))
"""Ours, and TRL's, whose trainers log ``rewards/NAME/mean``."""
_ONLY_REWARD = ("rollout/score/mean", "reward", "train/reward", "reward_mean")
"""The one reward of a run that names none: verl's score, TRL's reward."""
_STATISTICS = ("mean", "std", "max", "min")
"""No names of rewards: ``rewards/mean`` is of all of them."""
_LENGTHS = (
    "rollout/response_length/mean",
    "completions/mean_length",
    "train/completions/mean_length",
    "completion_length",
)


@dataclass(frozen=True, eq=False)
class Run:
    """One run: one seed of one group."""

    name: str
    steps_T: FloatArray
    measures: Mapping[str, FloatArray]
    """Each reward's mean by step, and ``response length`` in tokens. Shape (T,)."""
    counts: Mapping[Axis, FloatArray]
    """How far the run was after each step, by every axis that is known."""
    settings: Mapping[str, Any] | None = None
    """Its configuration by dotted name; None: unknown."""
    seed: int | None = None
    group: str | None = None
    """The group that the user put it in."""
    state: str = "unknown"
    """One of ``ENDS``; ``unfinished``; or ``unknown``, of others' runs."""
    detail: str = ""

    @property
    def rewards(self) -> list[str]:
        return [name for name in self.measures if name != LENGTH]

    @property
    def complete(self) -> bool:
        """Whether nothing speaks against counting it."""
        return self.state in (Phase.DONE, "unknown")


@dataclass(frozen=True)
class Source:
    """Per-step records of somebody's, before they are given a meaning."""

    name: str
    records: Sequence[Record]
    """Each with ``step``."""
    renames: Mapping[str, str] = field(default_factory=dict)
    """Reward's name by column, as the user says (``--reward NAME=COLUMN``); empty: by the names that are known."""


def read_run(folder: RunFolder, group: str | None = None) -> Run:
    """A run of mrpo's own.

    Raises:
        ConfigError: it has no step yet, or its config can't be read.
        CorruptLineError: a line of its files is broken.
    """
    settings: dict[str, Any] | None = None
    if folder.config.is_file():
        try:
            content = yaml.safe_load(folder.config.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise ConfigError(f"{folder.config}: is no YAML ({str(error).splitlines()[0]}).") from None
        settings = dict(flatten(content)) if isinstance(content, dict) else None
    ends = [event for event in folder.events() if event["phase"] in (*ENDS, Phase.ATTEMPT)]
    last = ends[-1] if ends else {"phase": Phase.ATTEMPT}
    state = "unfinished" if last["phase"] == Phase.ATTEMPT else str(last["phase"])
    run = of_source(Source(folder.name, folder.metrics()), settings)
    seed = None if settings is None else settings.get("seed")
    return Run(
        **vars(run)
        | {"state": state, "detail": last.get("detail", ""), "group": group}
        | {"seed": seed if isinstance(seed, int) else None}
    )


def of_source(source: Source, settings: Mapping[str, Any] | None = None) -> Run:
    """Give columns their meaning: which are rewards, which is the response length, what was used up.

    Raises:
        ConfigError: a column that the user names isn't there.
    """
    records = [{"step": record["step"], **_renamed(record, source.renames)} for record in source.records]
    steps_T = np.array([float(record["step"]) for record in records])
    columns = _measures(dict.fromkeys(name for record in records for name in record), source)
    return Run(
        name=source.name,
        steps_T=steps_T,
        measures={measure: _column(records, column) for measure, column in columns.items()},
        counts={"steps": steps_T, **_counts(records, steps_T, settings)},
        settings=settings,
    )


def _renamed(record: Record, columns: Iterable[str]) -> Record:
    """With verl's own names as ours, whoever logged them, and the ``columns`` that the user means as they are."""
    rest = {name: value for name, value in record.items() if name not in ("step", "time")}
    try:
        ours = rename(rest)
    except ValueError:  # it has both names of one metric
        ours = rest
    return ours | {name: rest[name] for name in columns if name in rest}


def _measures(columns: Iterable[str], source: Source) -> dict[str, str]:
    """Column by measure."""
    plain = {column.removeprefix("verl/"): column for column in columns}
    if source.renames:
        missing = [column for column in source.renames if column not in plain and column not in plain.values()]
        if missing:
            near = ", ".join(sorted(name for name in plain if name != "step"))
            raise ConfigError(f"--reward: given {missing[0]!r}, which {source.name} lacks. Allowed: {near:.600}.")
        found = {name: plain.get(column, column) for column, name in source.renames.items()}
    else:
        matches = [(column, pattern.fullmatch(name)) for name, column in plain.items() for pattern in _REWARDS]
        found = {match[1]: column for column, match in matches if match and match[1] not in _STATISTICS}
        if not found:
            found = next(({"score": plain[name]} for name in _ONLY_REWARD if name in plain), {})
    length = next((plain[name] for name in _LENGTHS if name in plain), None)
    return found if length is None else found | {LENGTH: length}


def _column(records: Sequence[Record], column: str) -> FloatArray:
    values = [number(record, column) for record in records]
    array = np.array([math.nan if value is None else value for value in values], dtype=np.float64)
    return np.where(np.isfinite(array), array, math.nan)


def _counts(
    records: Sequence[Record], steps_T: FloatArray, settings: Mapping[str, Any] | None
) -> dict[Axis, FloatArray]:
    """Rollouts, tokens and seconds up to each step, those that are known of every step from the first."""
    found: dict[Axis, FloatArray] = {}
    if (per_step := rollouts_per_step(settings or {})) is not None:
        found["rollouts"] = steps_T * per_step
    if len(steps_T) and np.array_equal(steps_T, np.arange(1, len(steps_T) + 1)):
        columns: dict[Axis, str] = {"rollouts": "budget/rollouts", "tokens": "train/tokens", "seconds": "time/step"}
        for axis, column in columns.items():
            values = _column(records, column)
            if axis not in found and not np.isnan(values).any() and not varies(settings or {}, axis):
                found[axis] = values.cumsum()
    return found


def varies(settings: Mapping[str, Any], axis: Axis) -> bool:
    """Whether more is sampled than is trained on, so that the metrics don't say how many rollouts there were."""
    sampled_again = settings.get("budget.filter_groups") is not None or settings.get("budget.rounds.keep") is not None
    return axis == "rollouts" and sampled_again


def rollouts_per_step(settings: Mapping[str, Any]) -> int | None:
    """Rollouts of each step, where the settings make it the same in all; None where they don't, or are unknown."""
    if varies(settings, "rollouts") or settings.get("budget.unit", "tokens") != "rollouts":
        return None
    if settings.get("budget.method") == "pilot_commit":  # what no prompt is to get is not sampled
        return None
    prompts, each = settings.get("data.train_batch_size"), settings.get("budget.rollouts_per_prompt")
    return prompts * each if isinstance(prompts, int) and isinstance(each, int) else None


def seed_in(path: Path) -> int | None:
    """The seed that a path names, where it names one.

    >>> seed_in(Path("out/seed3/metrics.jsonl")), seed_in(Path("grpo_seed=12.csv")), seed_in(Path("a.csv"))
    (3, 12, None)
    """
    found = re.findall(r"seed[=_\-]?(\d+)", str(path), re.IGNORECASE)
    return int(found[-1]) if found else None
