"""Started in the sandbox, in the place of the code, which it becomes: limits, a filter of system calls, a sign that all
is in place. Standard library only.

    guard.py READY LIMITS COMMAND…

READY is a descriptor, on which it writes ``FILTERED`` or ``UNFILTERED``; LIMITS are ``resource``'s, as JSON.

The filter is for what no solution needs and what goes around the limits: memory that no process has mapped (memfd,
System V), io_uring, keyrings, other processes' memory and descriptors, sockets of other kinds than a machine without a
network has. A refused call is one that the kernel doesn't know (ENOSYS), so libraries do without.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import resource
import struct
import sys

FILTERED, UNFILTERED = b"1", b"0"
NO_PROCESSES = 71
"""Exit code."""

MACHINES: dict[str, tuple[int, int]] = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
"""The kernel's number of the architecture (linux/audit.h), and the column of ``DENIED``."""
SOCKET, SOCKETPAIR = (41, 198), (53, 199)
DENIED: dict[str, tuple[int, int]] = {
    "add_key": (248, 217),
    "bpf": (321, 280),
    "fanotify_init": (300, 262),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "kcmp": (312, 272),
    "keyctl": (250, 219),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "mq_open": (240, 180),
    "msgget": (68, 186),
    "open_by_handle_at": (304, 265),
    "perf_event_open": (298, 241),
    "pidfd_getfd": (438, 438),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "request_key": (249, 218),
    "semget": (64, 190),
    "setns": (308, 268),
    "shmget": (29, 194),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
}
FAMILIES = (1, 2, 10, 16)
"""unix, inet, inet6, netlink: of ``socket``'s first argument."""
X32 = 0x40000000
"""From here on numbers are of x86-64's second set, which is refused whole."""

LOAD, EQUAL, AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06
"""Of linux/bpf_common.h: BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_JMP|JGE|K, BPF_RET|K."""
NUMBER, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16
"""Offsets in ``struct seccomp_data``, little endian."""
ALLOW, KILL, ERROR = 0x7FFF0000, 0x80000000, 0x00050000
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2


def program(machine: str) -> bytes:
    """The filter, for a machine of ``MACHINES``, as an array of ``struct sock_filter``."""
    architecture, column = MACHINES[machine]
    denied = [numbers[column] for numbers in DENIED.values()]
    ends = [
        (RETURN, 0, 0, ALLOW),
        (RETURN, 0, 0, ERROR | errno.ENOSYS),
        (LOAD, 0, 0, FIRST_ARGUMENT),
        *((EQUAL, len(FAMILIES) - place, 0, family) for place, family in enumerate(FAMILIES)),
        (RETURN, 0, 0, ERROR | errno.EAFNOSUPPORT),
        (RETURN, 0, 0, ALLOW),
    ]
    deny, families = 1, 2  # places in ``ends``, to whose first goes on what passes all tests
    tests = [(AT_LEAST, X32, deny), *((EQUAL, number, deny) for number in denied)]
    tests += [(EQUAL, SOCKET[column], families), (EQUAL, SOCKETPAIR[column], families)]
    lines = [
        (LOAD, 0, 0, ARCHITECTURE),
        (EQUAL, 1, 0, architecture),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, NUMBER),
        *((code, len(tests) - 1 - place + end, 0, value) for place, (code, value, end) in enumerate(tests)),
        *ends,
    ]
    return b"".join(struct.pack("<HBBI", *line) for line in lines)


def install(lines: bytes) -> bool:
    """Filter the system calls of this process and of all that it starts, for good. False: the kernel has no filters."""
    buffer = ctypes.create_string_buffer(lines, len(lines))
    filters = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(lines) // 8, ctypes.addressof(buffer)))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no_new_privs")
    return bool(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filters, 0, 0) == 0)


def check_fork() -> None:
    """Exit unless this process can fork: it can't where somebody else uses up what this user may have."""
    try:
        child = os.fork()
    except BlockingIOError:
        sys.exit(NO_PROCESSES)
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def main() -> None:
    ready, limits, command = int(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3:]
    for name, value in limits.items():
        resource.setrlimit(getattr(resource, name), (value, value))
    machine = os.uname().machine
    filtered = machine in MACHINES and install(program(machine))
    if limits["RLIMIT_NPROC"] > 1:
        check_fork()
    os.write(ready, FILTERED if filtered else UNFILTERED)
    os.close(ready)
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
