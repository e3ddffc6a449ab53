"""A run's files of rollouts, streamed into columns and compressed texts.

A row of the columns is a rollout. Its prompt group is the rows with the same run, kind, step and uid.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from mrpo.observe.page.columns import number, pack, whole
from mrpo.observe.page.texts import BlockWriter, entry, token_entry
from mrpo.record import token_file
from mrpo.record.jsonl import Record, lines
from mrpo.record.run_folder import RunFolder
from mrpo.record.token_file import stamp

MAX_TEXTS = 200_000_000
"""Bytes of compressed texts on a page, shared equally by its runs; ``mrpo report --max-texts``."""
REQUIRED = ("uid", "sample", "rewards")
UNKNOWN = 2
"""In ``keep``: a rollout that nobody says of whether the update used it. 1: it did, 0: it was dropped."""

Notify = Callable[[int, int], None]
"""Is told how many files are read, and of how many."""


@dataclass
class Blocks:
    """Compressed entries, as far as there was room for them."""

    sizes: list[int] = field(default_factory=list)
    """Entries of each block."""
    contents: list[bytes | None] = field(default_factory=list)
    """The blocks; None for one that found no room on the page."""

    @property
    def bytes(self) -> int:
        return sum(len(block) for block in self.contents if block is not None)

    def take(self, writer: BlockWriter, room: int) -> int:
        """Take over what was written since the last call; returns the room that is left, none after a block that found
        none."""
        for place in range(len(self.contents), len(writer.blocks)):
            block = writer.blocks[place]
            fits = len(block) <= room
            self.contents.append(block if fits else None)
            self.sizes.append(writer.sizes[place])
            room = room - len(block) if fits else 0
        return room

    def starts(self, first: int) -> list[int]:
        """The place of each block's first entry, where the first of all is at ``first``."""
        return list(accumulate(self.sizes, initial=first))[:-1]

    def bare(self) -> Blocks:
        return replace(self, contents=[None] * len(self.contents))


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
    texts: Blocks = field(default_factory=Blocks)
    """Of all rollouts."""
    token_rows: array[int] = field(default_factory=lambda: array("I"))
    """The rollouts whose single tokens were recorded."""
    token_texts: Blocks = field(default_factory=Blocks)
    """Of those."""
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


def read_part(path: Path, step: int, is_validation: bool, room: int, tokens: Path | None = None) -> Part:
    """Read one file, a line at a time.

    Args:
        room: bytes that its compressed texts and tokens may take; blocks beyond are left out.
        tokens: the file of the same step's single tokens.
    Raises:
        CorruptLineError: a complete line is broken.
    """
    part, texts, of_tokens = Part(step, is_validation), BlockWriter(), BlockWriter()
    recorded = {} if tokens is None else {(str(one["uid"]), one["sample"]): one for one in token_file.read(tokens)}
    for row, record in enumerate(lines(path, REQUIRED)):
        part.add(record)
        given = entry(record) if room > 0 else {}
        part.shortened += "left_out" in given
        texts.add(given)
        room = part.texts.take(texts, room)
        if recorded and (found := recorded.pop((part.uids[row], part.samples[row]), None)) is not None:
            part.token_rows.append(row)
            of_tokens.add(token_entry(found))
    texts.close()
    of_tokens.close()
    part.token_texts.take(of_tokens, part.texts.take(texts, room))
    return part


def _size(part: Part) -> int:
    return part.texts.bytes + part.token_texts.bytes


def _is_whole(part: Part) -> bool:
    return None not in part.texts.contents and None not in part.token_texts.contents


def _within(part: Part, room: int) -> Part:
    """The part, without texts if they don't fit: it may have been read when there was more room."""
    return part if _size(part) <= room else replace(part, texts=part.texts.bare(), token_texts=part.token_texts.bare())


class Seen(NamedTuple):
    """A file as it was read, and that of its tokens: sizes and times say whether they are still the same."""

    stamps: tuple[tuple[int, int], ...]
    room: int
    part: Part


class RolloutFile(NamedTuple):
    """A file of rollouts that is there, and where that of their tokens would be."""

    path: Path
    step: int
    is_validation: bool
    tokens: Path | None = None


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
            for file in of_run:
                part = _within(self._part(file, room), room)
                room = room - _size(part) if _is_whole(part) else 0
                parts.append(part)
                done += 1
                notify(done, total)
            found.append(sorted(parts, key=lambda part: (part.is_validation, part.step)))
        return found

    def _part(self, file: RolloutFile, room: int) -> Part:
        stamps = tuple(stamp(path) for path in (file.path, file.tokens) if path is not None)
        seen = self._seen.get(file.path)
        if seen is None or seen.stamps != stamps or (seen.room < room and not _is_whole(seen.part)):
            part = read_part(file.path, file.step, file.is_validation, room, file.tokens)
            seen = self._seen[file.path] = Seen(stamps, room, part)
        return seen.part


def _files(folder: RunFolder) -> Iterator[RolloutFile]:
    """In the order in which texts are given room."""
    steps, validations = folder.rollout_steps(), folder.validation_steps()
    first_and_last = sorted({*validations[:1], *validations[-1:]})
    for step in first_and_last:
        yield RolloutFile(folder.validation_rollouts / f"{step}.jsonl", step, True)
    for step in steps[:1] + steps[:0:-1]:
        yield RolloutFile(folder.rollouts_file(step), step, False, folder.tokens_file(step))
    for step in validations[-2:0:-1]:
        yield RolloutFile(folder.validation_rollouts / f"{step}.jsonl", step, True)


class Table(NamedTuple):
    """All rollouts of a page: what its script takes as JSON, and the blocks of texts and tokens that go beside it."""

    values: dict[str, Any]
    blocks: list[bytes | None]
    tokens: list[bytes | None]


def table_of(parts_by_run: Sequence[Sequence[Part]]) -> Table:
    """Put parts together, rows by run, kind and step.

    Returns:
        ``values`` has: ``rows``; ``rewards``, names of all runs'; ``uids``; ``columns`` by name, of which ``uid`` holds
        places in ``uids``; ``scores`` and ``failed``, a column each by the reward's place (``failed`` only of those
        that failed somewhere); ``starts``, each block's first row; ``shortened`` and ``withoutText``, numbers of
        rollouts; ``tokenRows``, those whose tokens were recorded, and ``tokenStarts``, each block's first place in it.
    """
    parts = [(run, part) for run, of_run in enumerate(parts_by_run) for part in of_run]
    rewards = list(dict.fromkeys(name for _, part in parts for name in (*part.scores, *part.failed)))
    uids: dict[str, int] = {}
    columns = {name: array(code) for name, code in (("run", "I"), ("step", "i"), ("validation", "B"), ("uid", "I"))}
    starts, blocks, row, without = array("I"), list[bytes | None](), 0, 0
    token_rows, token_starts, token_blocks = array("I"), array("I"), list[bytes | None]()
    for run, part in parts:
        columns["run"].extend([run] * len(part))
        columns["step"].extend([whole(part.step)] * len(part))
        columns["validation"].extend([part.is_validation] * len(part))
        columns["uid"].extend(uids.setdefault(uid, len(uids)) for uid in part.uids)
        starts.extend(part.texts.starts(row))
        token_starts.extend(part.token_texts.starts(len(token_rows)))
        blocks += part.texts.contents
        token_blocks += part.token_texts.contents
        without += sum(n for n, b in zip(part.texts.sizes, part.texts.contents, strict=True) if b is None)
        token_rows.extend(row + within for within in part.token_rows)
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
        "tokenRows": pack(token_rows),
        "tokenStarts": pack(token_starts),
        "shortened": sum(part.shortened for _, part in parts),
        "withoutText": without,
    }
    return Table(values, blocks, token_blocks)


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
