"""A run's files of rollouts, streamed into columns and compressed texts.

A row of the columns is a rollout. Its prompt group is the rows with the same run, kind, step and uid.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from mrpo.observe.page.columns import number, pack, whole
from mrpo.observe.page.texts import BlockWriter, entry
from mrpo.record.jsonl import Record, lines
from mrpo.record.run_folder import RunFolder

MAX_TEXTS = 200_000_000
"""Bytes of compressed texts on a page, shared equally by its runs; ``mrpo report --max-texts``."""
REQUIRED = ("uid", "sample", "rewards")
UNKNOWN = 2
"""In ``keep``: a rollout that nobody says of whether the update used it. 1: it did, 0: it was dropped."""

Notify = Callable[[int, int], None]
"""Is told how many files are read, and of how many."""


@dataclass
class Part:
    """The rollouts of one file, in its order."""

    step: int
    is_validation: bool
    uids: list[str] = field(default_factory=list)
    samples: array[int] = field(default_factory=lambda: array("i"))
    advantages: array[float] = field(default_factory=lambda: array("d"))
    tokens: array[float] = field(default_factory=lambda: array("d"))
    keep: array[int] = field(default_factory=lambda: array("B"))
    truncated: array[int] = field(default_factory=lambda: array("B"))
    scores: dict[str, array[float]] = field(default_factory=dict)
    """By reward; NaN where it didn't apply or failed."""
    failed: dict[str, array[int]] = field(default_factory=dict)
    """By reward that failed anywhere: 1 where it did."""
    sizes: list[int] = field(default_factory=list)
    """Rollouts of each block of texts."""
    blocks: list[bytes | None] = field(default_factory=list)
    """The blocks; None for one that found no room on the page."""
    shortened: int = 0
    """Rollouts of which a text was shortened."""

    def __len__(self) -> int:
        return len(self.uids)

    def add(self, record: Record) -> None:
        row = len(self)
        uid = record["uid"]
        self.uids.append(uid if isinstance(uid, str) else str(uid))
        self.samples.append(whole(record["sample"], missing=-1))
        self.advantages.append(number(record.get("advantage")))
        self.tokens.append(number(record.get("tokens")))
        keep = record.get("keep")
        self.keep.append(int(keep) if isinstance(keep, bool) else UNKNOWN)
        self.truncated.append(int(record.get("truncated") is True))
        rewards = record["rewards"] if isinstance(record["rewards"], dict) else {}
        for name in [name for name in rewards if name not in self.scores]:
            self.scores[name] = array("d", [float("nan")]) * row
        for name, scores in self.scores.items():
            scores.append(number(rewards.get(name)))
        failures = record.get("failures")
        failures = failures if isinstance(failures, dict) else {}
        for name in [name for name in failures if name not in self.failed]:
            self.failed[name] = array("B", [0]) * row
        for name, marks in self.failed.items():
            marks.append(int(name in failures))


def read_part(path: Path, step: int, is_validation: bool, room: int) -> Part:
    """Read one file, a line at a time.

    Args:
        room: bytes that its compressed texts may take; blocks beyond are left out.
    Raises:
        CorruptLineError: a complete line is broken.
    """
    part, texts = Part(step, is_validation), BlockWriter()
    for record in lines(path, REQUIRED):
        part.add(record)
        given = entry(record) if room > 0 else {}
        part.shortened += "left_out" in given
        texts.add(given)
        while len(texts.blocks) > len(part.blocks):
            room = _place(part, texts, room)
    texts.close()
    while len(texts.blocks) > len(part.blocks):
        room = _place(part, texts, room)
    return part


def _place(part: Part, texts: BlockWriter, room: int) -> int:
    """Take over one more block that was written; the room that is left."""
    block, size = texts.blocks[len(part.blocks)], texts.sizes[len(part.blocks)]
    part.blocks.append(block if len(block) <= room else None)
    part.sizes.append(size)
    return room - len(block) if len(block) <= room else 0


def _size(part: Part) -> int:
    return sum(len(block) for block in part.blocks if block is not None)


def _within(part: Part, room: int) -> Part:
    """The part, without texts if they don't fit: it may have been read when there was more room."""
    return part if _size(part) <= room else replace(part, blocks=[None] * len(part.blocks))


class Seen(NamedTuple):
    """A file as it was read: its size and time say whether it is still the same."""

    size: int
    changed: int
    room: int
    part: Part


class RolloutReader:
    """Reads runs' rollouts; a file that hasn't changed since it was last read isn't read again."""

    def __init__(self, max_texts: int = MAX_TEXTS) -> None:
        self.max_texts = max_texts
        self._seen: dict[Path, Seen] = {}

    def read(self, folders: Sequence[RunFolder], notify: Notify = lambda done, total: None) -> list[list[Part]]:
        """The parts of each run, by kind and step. Where not all texts find room, the newest steps' do, after those of
        the first step and of two validations, the first and the last."""
        files = [list(_files(folder)) for folder in folders]
        total, done = sum(map(len, files)), 0
        found: list[list[Part]] = []
        for of_run in files:
            room, parts = self.max_texts // len(folders), []
            for path, step, is_validation in of_run:
                part = _within(self._part(path, step, is_validation, room), room)
                room = 0 if None in part.blocks else room - _size(part)
                parts.append(part)
                done += 1
                notify(done, total)
            found.append(sorted(parts, key=lambda part: (part.is_validation, part.step)))
        return found

    def _part(self, path: Path, step: int, is_validation: bool, room: int) -> Part:
        stat, seen = path.stat(), self._seen.get(path)
        same = seen is not None and (seen.size, seen.changed) == (stat.st_size, stat.st_mtime_ns)
        if seen is None or not same or (seen.room < room and None in seen.part.blocks):
            seen = Seen(stat.st_size, stat.st_mtime_ns, room, read_part(path, step, is_validation, room))
            self._seen[path] = seen
        return seen.part


def _files(folder: RunFolder) -> Iterator[tuple[Path, int, bool]]:
    """Path, step and kind of each file, in the order in which texts are given room."""
    steps, validations = folder.rollout_steps(), folder.validation_steps()
    first_and_last = sorted({*validations[:1], *validations[-1:]})
    for step in first_and_last:
        yield folder.validation_rollouts / f"{step}.jsonl", step, True
    for step in steps[:1] + steps[:0:-1]:
        yield folder.rollouts_file(step), step, False
    for step in validations[-2:0:-1]:
        yield folder.validation_rollouts / f"{step}.jsonl", step, True


class Table(NamedTuple):
    """All rollouts of a page: what its script takes as JSON, and the blocks of texts that go beside it."""

    values: dict[str, Any]
    blocks: list[bytes | None]


def table_of(parts_by_run: Sequence[Sequence[Part]]) -> Table:
    """Put parts together, rows by run, kind and step.

    Returns:
        ``values`` has: ``rows``; ``rewards``, names of all runs'; ``uids``; ``columns`` by name, of which ``uid`` holds
        places in ``uids``; ``scores`` and ``failed``, a column each by the reward's place (``failed`` only of those
        that failed somewhere); ``starts``, each block's first row; ``shortened`` and ``withoutText``, numbers of
        rollouts.
    """
    parts = [(run, part) for run, of_run in enumerate(parts_by_run) for part in of_run]
    rewards = list(dict.fromkeys(name for _, part in parts for name in (*part.scores, *part.failed)))
    uids: dict[str, int] = {}
    columns = {name: array(code) for name, code in (("run", "I"), ("step", "i"), ("validation", "B"), ("uid", "I"))}
    starts, blocks, row, without = array("I"), list[bytes | None](), 0, 0
    for run, part in parts:
        columns["run"].extend([run] * len(part))
        columns["step"].extend([whole(part.step)] * len(part))
        columns["validation"].extend([part.is_validation] * len(part))
        columns["uid"].extend(uids.setdefault(uid, len(uids)) for uid in part.uids)
        within = 0
        for size, block in zip(part.sizes, part.blocks, strict=True):
            starts.append(row + within)
            blocks.append(block)
            within += size
            without += size if block is None else 0
        row += len(part)
    plain = {
        "sample": "samples",
        "advantage": "advantages",
        "tokens": "tokens",
        "keep": "keep",
        "truncated": "truncated",
    }
    for name, attribute in plain.items():
        columns[name] = _joined([getattr(part, attribute) for _, part in parts])
    values = {
        "rows": row,
        "rewards": rewards,
        "uids": list(uids),
        "columns": {name: pack(column) for name, column in columns.items()},
        "scores": [pack(_joined([_of(part.scores, name, part) for _, part in parts])) for name in rewards],
        "failed": {
            str(place): pack(_joined([_of(part.failed, name, part) for _, part in parts]))
            for place, name in enumerate(rewards)
            if any(name in part.failed for _, part in parts)
        },
        "starts": pack(starts),
        "shortened": sum(part.shortened for _, part in parts),
        "withoutText": without,
    }
    return Table(values, blocks)


def _of(columns: Mapping[str, array[Any]], name: str, part: Part) -> array[Any]:
    """The column of a reward; of one that a part lacks, NaN or 0 for each of its rows."""
    if name in columns:
        return columns[name]
    return array("d", [float("nan")]) * len(part) if columns is part.scores else array("B", [0]) * len(part)


def _joined(columns: Sequence[array[Any]]) -> array[Any]:
    joined = columns[0][:] if columns else array("d")
    for column in columns[1:]:
        joined.extend(column)
    return joined
