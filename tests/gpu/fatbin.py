"""Blank, in a compiled extension, the machine code of other GPUs than the one that it is for.

nvcc puts a "fat binary" for each source file into an extension: a header, then an entry for each architecture, of
machine code or of PTX, which the driver compiles where there is no machine code. A driver reads its own architecture's
entry only, by the entries' headers; so these stay, and a blanked entry's content, all zeros, takes no room in an
archive. Formats as in CUDA's ``fatbinary_section.h``, and as cuobjdump reads them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

MAGIC = b"\x50\xed\x55\xba"
HEADER = struct.Struct("<4sHHQ")  # magic, version, its own size, the entries' size
ENTRY = struct.Struct("<HHIQ12xI")  # kind, version, its own size, content's size, …, architecture
PTX, MACHINE_CODE = 1, 2


class Entry(NamedTuple):
    """One architecture's part of a fat binary: where its content begins and ends."""

    kind: int
    architecture: int
    begin: int
    end: int


def fat_binaries(content: bytes | bytearray) -> Iterator[list[Entry]]:
    """The entries of each fat binary in a file.

    Raises:
        ValueError: an entry reaches beyond its fat binary, so the format isn't the one known here.
    """
    at = content.find(MAGIC)
    while at >= 0:
        _, version, size, entries_size = HEADER.unpack_from(content, at)
        if (version, size) != (1, HEADER.size):  # these bytes by chance
            at = content.find(MAGIC, at + 1)
            continue
        begin, end = at + size, at + size + entries_size
        entries = []
        while begin < end:
            kind, _, own_size, content_size, architecture = ENTRY.unpack_from(content, begin)
            begin += own_size
            entries.append(Entry(kind, architecture, begin, begin + content_size))
            begin += content_size
        if begin != end:
            raise ValueError(f"the fat binary at {at} ends at {end}, its last entry at {begin}")
        yield entries
        at = content.find(MAGIC, end)


def needed(entries: list[Entry], architecture: int) -> list[Entry]:
    """Those that a GPU of this architecture (90: Hopper) may be given: its own machine code, or, where there is none,
    machine code of its generation and all PTX that it understands."""
    if own := [entry for entry in entries if (entry.kind, entry.architecture) == (MACHINE_CODE, architecture)]:
        return own
    generation = [entry for entry in entries if entry.architecture // 10 == architecture // 10]
    return [
        entry for entry in entries if entry.architecture <= architecture and (entry in generation or entry.kind == PTX)
    ]


def keep_only(content: bytearray, architecture: int) -> int:
    """Blank the rest in place. Returns how many bytes that were."""
    blanked = 0
    for entries in fat_binaries(content):
        kept = needed(entries, architecture)
        for entry in entries:
            if entry not in kept:
                size = entry.end - entry.begin
                content[entry.begin : entry.end] = bytes(size)
                blanked += size
    return blanked
