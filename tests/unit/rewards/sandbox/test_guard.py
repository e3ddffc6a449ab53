"""The filter of system calls, run as the kernel runs it, for both architectures."""

from __future__ import annotations

import errno
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrpo.rewards.sandbox import guard

pytestmark = pytest.mark.unit

MACHINES = sorted(guard.MACHINES)
READ_AND_WRITE = {"x86_64": (0, 1, 2, 59, 56, 257), "aarch64": (63, 64, 56, 221, 220, 48)}
"""read, write, open or openat, execve, clone, faccessat or openat: of what every program calls."""


def decide(machine: str, number: int, argument: int = 0, architecture: int | None = None) -> int:
    """What the filter returns for a call: an interpreter of its four instructions."""
    lines = list(struct.iter_unpack("<HBBI", guard.program(machine)))
    held, place = 0, 0
    given = architecture if architecture is not None else guard.MACHINES[machine][0]
    data = struct.pack("<IIQ6Q", number & 0xFFFFFFFF, given, 0, argument, 0, 0, 0, 0, 0)
    while True:
        code, yes, no, value = lines[place]
        place += 1
        if code == guard.RETURN:
            return int(value)
        if code == guard.LOAD:
            (held,) = struct.unpack_from("<I", data, value)
        else:
            place += yes if (held == value if code == guard.EQUAL else held >= value) else no


@pytest.mark.parametrize("machine", MACHINES)
def test_what_is_listed_is_unknown_to_programs_and_the_rest_is_allowed(machine: str) -> None:
    column = guard.MACHINES[machine][1]
    denied = {numbers[column] for numbers in guard.DENIED.values()}
    assert len(denied) == len(guard.DENIED)
    assert not denied & set(READ_AND_WRITE[machine])
    for number in range(600):
        expected = guard.ERROR | errno.ENOSYS if number in denied else guard.ALLOW
        if number not in (guard.SOCKET[column], guard.SOCKETPAIR[column]):
            assert decide(machine, number) == expected


@pytest.mark.parametrize("machine", MACHINES)
@given(family=st.integers(0, 300), high=st.integers(0, 1000))
def test_sockets_are_of_the_families_that_a_machine_without_a_network_has(machine: str, family: int, high: int) -> None:
    expected = guard.ALLOW if family in (1, 2, 10, 16) else guard.ERROR | errno.EAFNOSUPPORT
    for numbers in (guard.SOCKET, guard.SOCKETPAIR):
        assert decide(machine, numbers[guard.MACHINES[machine][1]], family | high << 32) == expected


@pytest.mark.parametrize("machine", MACHINES)
def test_calls_of_another_architecture_end_the_program(machine: str) -> None:
    assert decide(machine, 1, architecture=0x40000003) == guard.KILL
    assert decide(machine, guard.X32 + 1) == guard.ERROR | errno.ENOSYS
    assert decide(machine, -1) == guard.ERROR | errno.ENOSYS
