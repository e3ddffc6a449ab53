"""Attacks of a program on its sandbox, many in one: each says what came of it."""

from __future__ import annotations

import errno
import json
import re
from typing import Any

import pytest

from mrpo.rewards import sandbox
from mrpo.rewards.sandbox import guard
from tests.unit.rewards.library.rows import require_sandbox

pytestmark = pytest.mark.unit

CALLS = {
    **{f"call {name}": (numbers, (0, 0, 0, 0), errno.ENOSYS) for name, numbers in guard.DENIED.items()},
    "call of x32": ((guard.X32 + 39, -1), (), errno.ENOSYS),
    "call mount": ((165, 40), (b"x", b"/tmp", b"tmpfs", 0, 0), errno.EPERM),
    "call chroot": ((161, 51), (b"/tmp",), errno.EPERM),
    "call pivot_root": ((155, 41), (b"/tmp", b"/tmp"), errno.EPERM),
    "call fsopen": ((430, 430), (b"tmpfs", 0), errno.EPERM),
    "call setuid": ((105, 146), (12345,), "1|22"),
    "call reboot": ((169, 142), (0, 0, 0, 0), errno.EPERM),
}
"""Number by machine, arguments, error."""
ATTACKS: dict[str, tuple[str, str]] = {
    "vsock": ("socket.socket(40, 1)", "97"),
    "kernel's cryptography": ("socket.socket(38, 5)", "97"),
    "packets": ("socket.socket(17, 3)", "97"),
    "raw": ("socket.socket(2, 3, 1)", "1"),
    "pair of vsock": ("socket.socketpair(40, 1)", "97"),
    "ip": ("socket.create_connection(('192.0.2.1', 80), 5)", "101"),
    "ipv6": ("socket.create_connection(('2001:db8::1', 80), 5)", "101|99"),
    "datagram": ("socket.socket(2, 2).sendto(b'x', ('192.0.2.1', 53))", "101"),
    "name": ("socket.getaddrinfo('example.org', 80)", "-3"),
    "abstract": ("socket.socket(1).connect('\\0/tmp/.X11-unix/X0')", "111"),
    "shadow": ("open('/etc/shadow')", "2"),
    "proc": ("os.listdir('/proc')", "2"),
    "sys": ("os.listdir('/sys')", "2"),
    "root's home": ("os.listdir(os.path.join('/root', '.ssh'))", "2"),
    "shared memory": ("os.listdir('/dev/shm')", "2"),
    "terminal": ("open('/dev/tty')", "2"),
    "write to the root": ("open('/x', 'w')", "30"),
    "write to the system": ("open('/usr/bin/x', 'w')", "30"),
    "write to itself": ("open('/code/main', 'w')", "30"),
    "device": ("os.mknod('/tmp/sda', 0o660 | stat.S_IFBLK, os.makedev(8, 0))", "1"),
    "environment": ("print(sorted(os.environ), file=sys.stderr) if len(os.environ) > 8 else 'empty'", "'empty'"),
    "descriptors": ("[n for n in range(3, 4096) if n != big.fileno() and is_open(n)]", "[]"),
    "first process": ("os.kill(1, 9)", "1|None"),
    "other processes": ("[n for n in range(3, 4096) if n not in OURS and exists(n)]", "[]"),
    "files without end": ("[open(f'/tmp/{n}', 'w').close() for n in range(10**6)]", "28"),
    "folders without end": ("[os.mkdir(f'/tmp/d{n}') for n in range(10**6)]", "28"),
    "file without end": ("[big.write(bytes(2**20)) for n in range(100)]", "27"),
    "sparse file": ("os.truncate('/tmp/big', 10**9)", "27"),
    "memory": ("len(bytearray(2**30))", "MemoryError"),
    "mapped memory": ("mmap.mmap(-1, 2**30)", "12"),
    "descriptors without end": ("[os.dup(0) for n in range(100)]", "24"),
    "limits": ("resource.setrlimit(resource.RLIMIT_AS, (2**40, 2**40))", "ValueError"),
    "core": ("resource.getrlimit(resource.RLIMIT_CORE)", "(0, 0)"),
}
"""What is tried; the error's number or name, or what comes back: one or "|" another, by how the sandbox is made."""

PROGRAM = """
import ctypes, json, mmap, os, platform, resource, socket, stat, sys
call = ctypes.CDLL(None, use_errno=True).syscall
column = ["x86_64", "aarch64"].index(platform.machine())
OURS, BEFORE = set(), os.listdir("/tmp")
def exists(n):
    try: os.kill(n, 0)
    except ProcessLookupError: return False
    except OSError: pass
    return True
def is_open(n):
    try: os.fstat(n)
    except OSError: return False
    return True
def calls(numbers, arguments):
    if numbers[column] < 0: return 38
    ctypes.set_errno(0)
    return ctypes.get_errno() if call(numbers[column], *arguments) == -1 else "it went well"
def evaluate(code):
    big = open('/tmp/big', 'ab', buffering=0)
    try: return repr(eval(code, {**globals(), "big": big}))
    except OSError as error: return str(error.errno)
    except BaseException as error: return type(error).__name__
found = {}
for name, what in json.load(sys.stdin).items():
    reading, writing = os.pipe()
    child = os.fork()
    OURS |= {os.getpid(), child}
    if child == 0:
        os.close(reading)
        os.dup2(writing, 2)
        os.closerange(3, 64)
        OURS.add(os.getpid())
        arguments = [a.encode() if isinstance(a, str) else a for a in what[1]] if isinstance(what, list) else ()
        text = str(calls(what[0], arguments)) if isinstance(what, list) else evaluate(what)
        os.write(2, text.encode())
        os._exit(0)
    os.close(writing)
    found[name] = os.read(reading, 1000).decode()
    os.close(reading)
    os.waitpid(child, 0)
    for entry in os.scandir('/tmp'):
        if entry.name in BEFORE: continue
        os.rmdir(entry.path) if entry.is_dir() else os.unlink(entry.path)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found() -> dict[str, str]:
    require_sandbox()
    tries: dict[str, Any] = {name: code for name, (code, _) in ATTACKS.items()}
    for name, (numbers, arguments, _) in CALLS.items():
        tries[name] = [numbers, [a.decode() if isinstance(a, bytes) else a for a in arguments]]
    result = sandbox.run(PROGRAM, json.dumps(tries), seconds=60, memory_gib=0.5)
    assert result.exit_code == 0, result
    outcomes: dict[str, str] = json.loads(result.stdout)
    return outcomes


@pytest.mark.parametrize("name", [*ATTACKS, *CALLS])
def test_a_program_gets_nowhere(found: dict[str, str], name: str) -> None:
    if name.startswith("call ") and not sandbox.find_sandbox().filtered:
        pytest.skip("system calls aren't filtered on this kernel")
    expected = re.escape(ATTACKS[name][1]) if name in ATTACKS else str(CALLS[name][2])
    assert re.fullmatch(expected.replace(r"\|", "|"), found[name])


ORDINARY = """
import asyncio, concurrent.futures, mmap, sqlite3, subprocess, tempfile, threading, socket
import numpy
assert (numpy.ones((200, 200)) @ numpy.ones((200, 200)))[0, 0] == 200
assert numpy.linalg.inv(numpy.eye(50)).sum() == 50
assert list(concurrent.futures.ThreadPoolExecutor(4).map(abs, [-1, 2])) == [1, 2]
assert asyncio.run(asyncio.sleep(0, 3)) == 3
assert subprocess.run(["echo", "hi"], capture_output=True).stdout == b"hi\\n"
with tempfile.TemporaryDirectory() as folder, sqlite3.connect(folder + "/x") as base:
    assert base.execute("select 1").fetchone() == (1,)
mmap.mmap(-1, 4096)[0] = 1
socket.socketpair(), socket.socket().bind(("127.0.0.1", 0))
print("all of it works")
"""


def test_an_ordinary_program_misses_nothing() -> None:
    require_sandbox()
    assert sandbox.run(ORDINARY, seconds=60, memory_gib=1).stdout == "all of it works\n"


TOGETHER = """
import os, time
reading, writing = os.pipe()
os.set_blocking(reading, False)
children = []
for n in range(8):
    children.append(os.fork())
    if not children[-1]:
        held = bytearray(100 << 20)
        for place in range(0, len(held), 4096): held[place] = 1
        os.write(writing, bytes([n]))
        time.sleep(60)
have, left = set(), set(range(8))
def look():
    try: have.update(os.read(reading, 8))
    except BlockingIOError: time.sleep(0.01)
    left.difference_update([n for n in left if os.waitpid(children[n], os.WNOHANG)[0]])
while left - have: look()
time.sleep(0.5)  # one that was killed last ends meanwhile
look()
print(len(left), flush=True)
"""
"""Says how many children are left once each has its memory or has ended."""


def test_memory_is_limited_for_all_processes_together() -> None:
    require_sandbox()
    if sandbox.find_sandbox().group is None:
        pytest.skip("no memory control group can be made here")
    result = sandbox.run(TOGETHER, seconds=20, memory_gib=0.25)
    # 256 MiB, and what its /tmp may take. Nothing is said where who counts them has ended as well.
    assert 0 < int(result.stdout or "1") < 4
