"""Of a compiled extension's machine code a GPU keeps what its driver may take, and nothing else of the file changes."""

from __future__ import annotations

import struct

import pytest

from tests.gpu.fatbin import ENTRY, HEADER, MACHINE_CODE, MAGIC, PTX, fat_binaries, keep_only

pytestmark = pytest.mark.unit


def entry(kind: int, architecture: int, content: bytes) -> bytes:
    """As nvcc writes it: a header of 64 bytes, longer than what is read of it, then the content."""
    return ENTRY.pack(kind, 0x101, 64, len(content), architecture).ljust(64, b"\xee") + content


def fat_binary(*entries: bytes) -> bytes:
    whole = b"".join(entries)
    return HEADER.pack(MAGIC, 1, HEADER.size, len(whole)) + whole


def contents(file: bytes) -> list[list[bytes]]:
    return [[bytes(file[e.begin : e.end]) for e in entries] for entries in fat_binaries(file)]


@pytest.mark.parametrize(
    ("entries", "kept"),
    [
        ([(MACHINE_CODE, 80), (MACHINE_CODE, 90), (MACHINE_CODE, 90), (PTX, 90), (MACHINE_CODE, 100)], [1, 2]),
        ([(MACHINE_CODE, 80), (PTX, 80), (PTX, 90), (PTX, 100)], [1, 2]),  # the driver compiles one for 90
        ([(MACHINE_CODE, 75), (MACHINE_CODE, 120)], []),
    ],
)
def test_what_hopper_may_be_given_stays_and_the_rest_becomes_zeros(
    entries: list[tuple[int, int]], kept: list[int]
) -> None:
    texts = [bytes([65 + number]) * 8 for number in range(len(entries))]
    whole = fat_binary(*(entry(*which, text) for which, text in zip(entries, texts, strict=True)))
    file = bytearray(b"host code" + MAGIC + b"by chance" + whole + b"more of it" + whole)
    before = bytes(file)
    assert keep_only(file, 90) == 2 * 8 * (len(entries) - len(kept))
    assert contents(bytes(file)) == [[t if n in kept else bytes(8) for n, t in enumerate(texts)]] * 2
    assert len(file) == len(before)
    assert bytes(file).replace(b"\0", b"").startswith(b"host code" + MAGIC + b"by chance")
    assert b"more of it" in file


def test_a_format_that_is_not_known_is_refused_rather_than_blanked() -> None:
    broken = HEADER.pack(MAGIC, 1, HEADER.size, 70) + entry(MACHINE_CODE, 80, b"x" * 8)
    with pytest.raises((ValueError, struct.error)):
        keep_only(bytearray(broken), 90)
