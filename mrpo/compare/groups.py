"""Which runs are seeds of one setting: runs are grouped by what differs in their settings, except the seed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mrpo.checkpoint.compatible import is_free
from mrpo.compare.run import Run
from mrpo.config.base import as_yaml

_PREPARED = re.compile(r"^.*/[\w.-]+-[0-9a-f]{12}/")
"""Where a recipe's ``prepare`` has put model and data: a folder of the cache that is named by the seed, too."""
ABSENT = "not set"


@dataclass(frozen=True, eq=False)
class Group:
    """Runs that differ in nothing but their seed."""

    name: str
    runs: tuple[Run, ...]


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """Group runs, in their order. A run that the user gave a group is in that; one of unknown settings is alone.

    A group is named by the settings in which groups differ, each by the shortest end of its name that is unambiguous;
    where nothing differs, by their recipe, or a single run by its own name.
    """
    keys: dict[int, Any] = {}
    comparable = {n: decisive(run.settings) for n, run in enumerate(runs) if run.settings is not None}
    differing = differing_fields([comparable[n] for n in comparable if runs[n].group is None])
    for n, run in enumerate(runs):
        if run.group is not None:
            keys[n] = run.group
        elif n in comparable:
            keys[n] = tuple(as_yaml(comparable[n].get(field, ABSENT)) for field in differing)
        else:
            keys[n] = (run.name, n)
    members: dict[Any, list[int]] = {}
    for n, key in keys.items():
        members.setdefault(key, []).append(n)
    settings = [comparable.get(found[0], {}) for found in members.values()]
    labels = labels_of([s for s, found in zip(settings, members.values(), strict=True) if _unnamed(runs, found)])
    groups, taken, left = [], set[str](), iter(labels)
    for found in members.values():
        first = runs[found[0]]
        label = next(left) if _unnamed(runs, found) else first.group or first.name
        if not label:
            label = first.name if len(found) == 1 else str((first.settings or {}).get("recipe", first.name))
        name, number = label, 2
        while name in taken:
            name, number = f"{label} ({number})", number + 1
        taken.add(name)
        groups.append(Group(name, tuple(runs[n] for n in found)))
    return groups


def _unnamed(runs: Sequence[Run], found: Sequence[int]) -> bool:
    """Whether a group is named by its settings."""
    return runs[found[0]].group is None and runs[found[0]].settings is not None


def decisive(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that decide what is learned, without the seed and where things lie."""
    prepared = settings.get("prepare") is not None
    return {
        field: _without_place(value) if prepared else value
        for field, value in settings.items()
        if field != "seed" and not is_free(field)
    }


def _without_place(value: Any) -> Any:
    if isinstance(value, list):
        return list(map(_without_place, value))
    return _PREPARED.sub("${prepared:}/", value) if isinstance(value, str) else value


def differing_fields(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Fields that aren't the same in all, in the order of the first that has them."""
    fields = dict.fromkeys(field for one in settings for field in one)
    return [field for field in fields if any(_differ(one, settings[0], field) for one in settings)]


def _differ(one: Mapping[str, Any], other: Mapping[str, Any], field: str) -> bool:
    return one.get(field, ABSENT) != other.get(field, ABSENT)


def labels_of(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """A name for each by the fields that differ; of fields that some lack (options of one method), only those that are
    needed to tell them apart, and that a section isn't there only if none of its own does. Empty where nothing differs.

    >>> labels_of([{"algorithm.estimator": "grpo", "seed": 1}, {"algorithm.estimator": "gdpo", "algorithm.x": 1}])
    ['estimator=grpo', 'estimator=gdpo']
    """
    differing = differing_fields(settings)
    shared = [field for field in differing if all(field in one for one in settings)]
    chosen = list(shared)
    others = [field for field in differing if field not in shared and field != "seed"]
    for field in sorted(others, key=lambda field: any(other.startswith(f"{field}.") for other in others)):
        if _classes(settings, [*chosen, field]) > _classes(settings, chosen):
            chosen.append(field)
    short = short_names(chosen)
    labels = [
        ", ".join(f"{short[field]}={as_yaml(one[field])}" for field in chosen if field in one) for one in settings
    ]
    return [label or (f"{chosen[0]} not set" if chosen else "") for label in labels]


def _classes(settings: Sequence[Mapping[str, Any]], fields: Sequence[str]) -> int:
    return len({tuple(as_yaml(one.get(field, ABSENT)) for field in fields) for one in settings})


def short_names(fields: Iterable[str]) -> dict[str, str]:
    """Each dotted name by the shortest end of it that no other one has.

    >>> list(short_names(["algorithm.estimator", "rewards.short.weight", "rewards.correct.weight"]).values())
    ['estimator', 'short.weight', 'correct.weight']
    """
    names = list(fields)
    ends = {name: [".".join(name.split(".")[-n:]) for n in range(1, name.count(".") + 2)] for name in names}
    return {
        name: next(end for end in ends[name] if end == name or sum(end in ends[other] for other in names) == 1)
        for name in names
    }
