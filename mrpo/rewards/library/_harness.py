"""What runs in the sandbox: the response's code against each case, in a process of its own. Standard library only.

Its input is a task as JSON, and a word of ``WORD`` bytes from the descriptor that is its argument. Its output is
messages, each the word, a line and two texts: ``ready`` before the response's code first runs; an answer a case,
``done``, ``wrong``, ``bug`` or ``slow``, with what the program printed and what it returned; ``more`` instead of the
next answer, if all are too long for one sandbox.

The code runs in forks of this process, which hold what it holds. So what a case expects isn't among what it reads, nor
any number made of it; asserts have to be here. The word lies on a page that forks don't get, and this process can't be
traced, so no program can answer for another case. A fork costs milliseconds, a sandbox a case tenths of a second.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import json
import mmap
import os
import resource
import signal
import sys
import tempfile
import threading
import time
import traceback
import types
from typing import IO, Any, NoReturn

WORD = 32
MAX_TEXT = 1 << 20
"""Bytes of a text that a case may print or return; more is ``wrong``. The same for all, whatever they expect."""
MAX_ANSWERS = 8 << 20
"""Bytes of answers after which the others are for another sandbox."""
STACK = 128 << 20
"""Bytes of a program's stack, for recursion as deep as its own limit allows; the usual 8 MiB end some of it."""
FILE = "/tmp/main.py"
"""What a program's file is called. There is none."""
BUG, WRONG = 1, 3
"""Exit codes."""
PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 4, 36


def main() -> None:
    system = ctypes.CDLL(None)
    system.prctl(PR_SET_DUMPABLE, 0)
    system.prctl(PR_SET_CHILD_SUBREAPER, 1)
    page = mmap.mmap(-1, mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    page.madvise(mmap.MADV_DONTFORK)
    word = memoryview(page)[:WORD]
    os.readv(descriptor := int(sys.argv[1]), [word])
    os.close(descriptor)
    sys.set_int_max_str_digits(0)  # here, and for the programs: most judges' Python had no such limit
    task = json.load(sys.stdin)
    with contextlib.redirect_stdout(sys.stderr):
        exec(task["preamble"], {})  # so that its imports are there in every fork
    say(word, "ready")
    end, size = time.monotonic() + task["total"], 0
    for case in task["cases"]:
        if size > MAX_ANSWERS:
            return say(word, "more")
        left = min(task["seconds"], end - time.monotonic())
        ended, texts = run(task, case, left) if left > 0 else ("slow", ())
        if any(len(text) > MAX_TEXT for text in texts):
            ended, texts = "wrong", ()
        say(word, ended, *texts)
        size += sum(map(len, texts))


def say(word: memoryview, what: str, printed: bytes = b"", returned: bytes = b"") -> None:
    os.writev(1, [word, f"{what} {len(printed)} {len(returned)}\n".encode(), printed, returned])


def run(task: dict[str, Any], case: dict[str, Any], seconds: float) -> tuple[str, tuple[bytes, ...]]:
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as printed, tempfile.TemporaryFile() as returned:
        given.write(case["given"].encode("utf-8", "replace") if case["kind"] == "stdin" else b"")
        given.seek(0)
        child = os.fork()
        if child == 0:
            os.setsid()
            os.dup2(given.fileno(), 0)
            os.dup2(printed.fileno(), 1)
            begin()
            leave(attempt(task, case, returned))
        status = wait(child, seconds)
        clear()
        if status != 0:
            return {None: "slow", WRONG: "wrong"}.get(status, "bug"), ()
        return "done", (read(printed), read(returned))


def begin() -> None:
    """Make this process what a program finds that was started by itself."""
    sys.stdin = sys.__stdin__ = os.fdopen(0, closefd=False)  # type: ignore[misc]
    sys.stdout = sys.__stdout__ = os.fdopen(1, "w", closefd=False)  # type: ignore[misc]
    sys.argv = [FILE]
    most = resource.getrlimit(resource.RLIMIT_STACK)[1]
    resource.setrlimit(resource.RLIMIT_STACK, (STACK if most < 0 else min(STACK, most), most))


def attempt(task: dict[str, Any], case: dict[str, Any], returned: IO[bytes]) -> int:
    """Run the case in this process; its exit code."""
    kind = case["kind"]
    module = types.ModuleType("__main__" if kind == "stdin" else "response")
    module.__file__ = FILE
    sys.modules[module.__name__] = module
    try:
        if kind != "stdin":
            exec(task["preamble"], module.__dict__)
        exec(compile(task["code"], "<response>", "exec"), module.__dict__)
        if kind == "call":
            function, arguments = case["given"]
            owner = module.Solution() if hasattr(module, "Solution") else module
            result = getattr(owner, function)(*arguments)
            try:
                returned.write(json.dumps(result, default=plain).encode())
            except (TypeError, ValueError, RecursionError):  # say with keys that JSON hasn't
                return WRONG
        elif kind == "assert":
            exec(compile(case["given"], "<test>", "exec"), module.__dict__)
            returned.write(b"true")  # that code which exits early doesn't get to
        returned.flush()
    except SystemExit as error:
        if error.code not in (None, 0):
            return BUG
    except AssertionError as error:
        return WRONG if traceback.extract_tb(error.__traceback__)[-1].filename == "<test>" else BUG
    except BaseException:
        return BUG
    return finish() if kind == "stdin" else 0


def finish() -> int:
    """End a program as Python does: wait for its threads, then call what it has registered."""
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    except BaseException:
        return BUG
    return 0


def plain(value: Any) -> Any:
    """NumPy's arrays and numbers as JSON has them."""
    return value.tolist() if hasattr(value, "tolist") else repr(value)


def leave(code: int) -> NoReturn:
    try:
        for stream in (sys.stdout, sys.__stdout__):
            with contextlib.suppress(Exception):
                stream.flush()  # type: ignore[union-attr]
    finally:
        os._exit(code)


def wait(child: int, seconds: float) -> int | None:
    """The process's exit code, negative after a signal; None: it took longer and was killed."""
    end, pause = time.monotonic() + seconds, 0.0005
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return None
        time.sleep(pause)
        pause = min(2 * pause, 0.02)


def clear() -> None:
    """Kill whatever the case left running, and wait until it is gone, since processes are counted."""
    if os.path.exists("/proc/1"):  # never outside of the sandbox, which has none, and an own range of process numbers
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)  # all but this one and the sandbox's first
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()


def read(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read(MAX_TEXT + 1)


if __name__ == "__main__":
    main()
