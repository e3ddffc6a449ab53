"""Run code that nobody has read: no network, no files but the system's and Python's, none of them writable, limits.

By bubblewrap, or by ``unshare`` of util-linux, which needs root or unprivileged user namespaces; without either code is
refused, never run unprotected. Inside there is no ``/proc``, no home, an empty environment, and 64 MiB of ``/tmp``; a
filter refuses system calls that no solution needs. A hole in the kernel is a hole in this; where that matters, score in
machines made for it.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import IO, NamedTuple

from mrpo.errors import unknown_name
from mrpo.owned import own
from mrpo.rewards.sandbox import commands, guard, memory

STARTING = 30.0
"""Seconds in which the sandbox must be set up."""
STARTS = 3
"""Times that it is tried, each as another user."""
OUTPUT = 1 << 20
"""Bytes of each output that are returned; the rest is cut."""
LARGEST_FILE = 16 << 20
"""Bytes that a file or an output may have; writing more is an error to the code."""
ENVIRONMENT = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "HOME": "/tmp", "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"}
LANGUAGES = {"python": [sys.executable, "-I"], "sh": ["/bin/sh"]}
GUARD = Path(guard.__file__).read_text(encoding="utf-8")


class SandboxError(RuntimeError):
    """The code wasn't run, for no fault of its own."""


class _NoProcessesError(SandboxError):
    """Others have used up what the sandbox's user may have."""


@dataclass(frozen=True)
class Result:
    """What the code did. ``exit_code`` is 128 + n after signal n."""

    stdout: str
    stderr: str
    exit_code: int
    timed_out: bool


class Sandbox(NamedTuple):
    """``name``: of the commands that make it; ``filtered``: it filters system calls; ``group``: where its memory can be
    limited as a whole, None: nowhere."""

    name: str
    filtered: bool
    group: Path | None


class Limits(NamedTuple):
    """``seconds`` from when the code starts, ``memory_gib`` of the whole sandbox without its ``/tmp``, and of each
    process; ``processes`` and threads; ``output``: bytes of standard output that are returned."""

    seconds: float
    memory_gib: float = 0.5
    processes: int = 16
    output: int = OUTPUT


class Ended(NamedTuple):
    """What there is when the code has ended: its outputs as bytes."""

    stdout: bytes
    stderr: bytes
    exit_code: int
    timed_out: bool
    filtered: bool


def run(
    code: str,
    stdin: str = "",
    *,
    seconds: float,
    memory_gib: float = 0.5,
    processes: int = 16,
    language: str = "python",
) -> Result:
    """Run ``code`` and wait, at most ``seconds`` from when it starts. Safe in threads.

    ``memory_gib`` is what it may use in all, where ``weaknesses`` doesn't say otherwise, and what each of its processes
    may address; ``processes`` how many processes and threads it may have.

    Raises:
        SandboxError: no sandbox works here, or it failed to start.
        ConfigError: ``language`` is none of ``LANGUAGES``.
    """
    if language not in LANGUAGES:
        raise unknown_name("language", language, LANGUAGES)
    given = stdin.encode("utf-8", "replace")
    ended = execute(code, given, Limits(seconds, memory_gib, processes), LANGUAGES[language])
    out, err = (text.decode("utf-8", "replace") for text in (ended.stdout, ended.stderr))
    return Result(out, err, ended.exit_code, ended.timed_out)


def execute(
    code: str, stdin: bytes, limits: Limits, interpreter: Sequence[str] = LANGUAGES["python"], secret: bytes = b""
) -> Ended:
    """As ``run``. ``secret``, if there is one, can be read once, from the descriptor that is the code's argument.

    Raises:
        SandboxError: no sandbox works here, or it failed to start.
    """
    sandbox = find_sandbox()
    for _ in range(STARTS - 1):
        with contextlib.suppress(_NoProcessesError):
            return _run(sandbox, code, stdin, limits, interpreter, secret)
    return _run(sandbox, code, stdin, limits, interpreter, secret)


@functools.cache
def find_sandbox() -> Sandbox:
    """The first sandbox that works here.

    Raises:
        SandboxError: none does. Says why each doesn't, and what to do.
    """
    # Root has no limit on its number of processes, so it must become another user, which bubblewrap can't do for it.
    reasons = []
    root, group = os.geteuid() == 0, memory.parent_group()
    for name in ("unshare",) if root else ("bwrap", "unshare"):
        try:
            ended = _run(Sandbox(name, False, group), "", b"", Limits(10.0), LANGUAGES["python"])
        except (SandboxError, OSError) as error:
            reasons.append(f"{name}: {error}")
        else:
            return Sandbox(name, ended.filtered, group)
    advice = (
        "Install util-linux and give root CAP_SYS_ADMIN, in a container say by --cap-add SYS_ADMIN, or be another user"
        if root
        else "Install bubblewrap (apt install bubblewrap) and util-linux and allow unprivileged user namespaces, or be "
        "root with CAP_SYS_ADMIN"
    )
    raise SandboxError(
        f"no sandbox for untrusted code works here ({'; '.join(reasons)}). {advice}, or use a sandbox server."
    )


def weaknesses() -> list[str]:
    """What the sandbox that works here doesn't hold, a sentence each.

    Raises:
        SandboxError: none works here.
    """
    sandbox, found = find_sandbox(), []
    if sandbox.group is None:
        found.append(
            "memory is limited for each process and not for all of a program's together, since no memory control group "
            "can be made here: up to processes * memory, besides what the kernel holds for it"
        )
        if sandbox.name == "bwrap":
            found.append("the number of files in /tmp isn't limited: bubblewrap knows no such limit")
    if not sandbox.filtered:
        found.append(f"system calls aren't filtered on this kernel ({os.uname().machine})")
    return found


def _run(
    sandbox: Sandbox, code: str, stdin: bytes, limits: Limits, interpreter: Sequence[str], secret: bytes = b""
) -> Ended:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mrpo-sandbox-")))
        stack.callback(os.close, own(folder))
        (folder / "code").mkdir()
        for name, text in (("main", code), ("guard", GUARD)):
            (folder / "code" / name).write_text(text, "utf-8", "replace")
            (folder / "code" / name).chmod(0o644)
        (folder / "code").chmod(0o755)
        # Of its outputs it gets ends that can only be written, whoever inside may get hold of them.
        (folder / "in").write_bytes(stdin)
        modes = {"in": "rb", "out": "ab", "err": "ab"}
        given, out, err = (stack.enter_context(open(folder / name, mode)) for name, mode in modes.items())
        signs, ready = map(stack.enter_context, _pipe())
        kept = [ready.fileno()]
        arguments: list[str] = []
        if secret:
            told, telling = map(stack.enter_context, _pipe())
            telling.write(secret)
            telling.close()
            kept.append(told.fileno())
            arguments = [str(told.fileno())]
        joining: list[str] = []
        if sandbox.group is not None:
            group = _make_group(sandbox.group, limits)
            stack.callback(memory.remove, group)
            (folder / "group").symlink_to(group)  # for whoever cleans up where this process is killed
            joining = ["/bin/sh", "-c", memory.JOIN, str(group)]
        bounds = json.dumps(_bounds(limits))
        command = [
            *("setpriv", "--pdeathsig", "KILL", *joining),
            *(commands.by_bwrap(folder) if sandbox.name == "bwrap" else commands.by_unshare(folder)),
            *(sys.executable, "-I", "-S", "/code/guard", str(ready.fileno()), bounds),
            *(*interpreter, "/code/main", *arguments),
        ]
        process = stack.enter_context(
            subprocess.Popen(
                command,
                stdin=given,
                stdout=out,
                stderr=err,
                cwd="/",
                env=ENVIRONMENT,
                start_new_session=True,
                pass_fds=kept,
            )
        )
        ready.close()
        sign, timed_out = b"", False
        try:
            sign = signs.read(1) if _readable(signs, STARTING) else b""
            if sign:
                process.wait(limits.seconds)
        except subprocess.TimeoutExpired:
            timed_out = True
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if process.returncode == guard.NO_PROCESSES and not sign:
            raise _NoProcessesError(f"its user may have {limits.processes} processes and can't start one")
        if not sign:
            said = _read(folder / "err").decode("utf-8", "replace")
            raise SandboxError(f"the sandbox didn't start: {said.strip()[-300:]}")
        exit_code = process.returncode if process.returncode >= 0 else 128 - process.returncode
        outputs = _read(folder / "out", limits.output), _read(folder / "err")
        return Ended(*outputs, exit_code, timed_out, sign == guard.FILTERED)


def _make_group(folder: Path, limits: Limits) -> Path:
    try:
        return memory.make(folder, int(limits.memory_gib * 2**30) + commands.TMP)
    except OSError as error:
        raise SandboxError(f"its memory can't be limited: {error}") from error


def _bounds(limits: Limits) -> dict[str, int]:
    """As ``resource`` names them, of each process; the number of processes is the user's."""
    return {
        "RLIMIT_AS": int(limits.memory_gib * 2**30),
        "RLIMIT_NPROC": limits.processes,
        "RLIMIT_CPU": ceil(limits.seconds) + 1,
        "RLIMIT_FSIZE": LARGEST_FILE,
        "RLIMIT_NOFILE": 64,
        "RLIMIT_CORE": 0,
    }


def _pipe() -> tuple[IO[bytes], IO[bytes]]:
    read, write = os.pipe()
    return open(read, "rb", buffering=0), open(write, "wb", buffering=0)


def _readable(file: IO[bytes], seconds: float) -> bool:
    poll = select.poll()
    poll.register(file, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _read(file: Path, length: int = OUTPUT) -> bytes:
    with open(file, "rb") as opened:
        return opened.read(length)
