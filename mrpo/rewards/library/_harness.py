"""What runs in the sandbox: the response's code against each case, in a process of its own. Standard library only.

It reads a task as JSON, and answers with a line of JSON a case: ``end`` (``done``, ``wrong``, ``bug`` or ``slow``),
``printed`` and ``returned``; more than the case's ``max_bytes`` are ``wrong``. What a case expects isn't among what it
reads, so the code can't look it up; only asserts have to be here. A fork costs milliseconds, a sandbox a case tenths of
a second.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import tempfile
import time
import traceback
import types
from typing import IO, Any, NoReturn

BUG, WRONG = 1, 3
"""Exit codes."""


def main() -> None:
    task = json.load(sys.stdin)
    end = time.monotonic() + task["total"]
    with contextlib.suppress(Exception):
        exec(task["preamble"], {})  # so that its imports are there in every fork
    for case in task["cases"]:
        left = min(task["seconds"], end - time.monotonic())
        line = json.dumps(run(task, case, left) if left > 0 else {"end": "slow"})
        print(line if len(line) <= case["max_bytes"] else json.dumps({"end": "wrong"}), flush=True)


def run(task: dict[str, Any], case: dict[str, Any], seconds: float) -> dict[str, str]:
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as printed, tempfile.TemporaryFile() as returned:
        given.write(case["given"].encode("utf-8", "replace") if case["kind"] == "stdin" else b"")
        given.seek(0)
        child = os.fork()
        if child == 0:
            os.setsid()
            os.dup2(given.fileno(), 0)
            os.dup2(printed.fileno(), 1)
            sys.stdin = os.fdopen(0, closefd=False)
            sys.stdout = os.fdopen(1, "w", closefd=False)
            leave(attempt(task, case, returned))
        status = wait(child, seconds)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # whatever it left running
        if status != 0:
            return {"end": {None: "slow", WRONG: "wrong"}.get(status, "bug")}
        limit = case["max_bytes"]
        return {"end": "done", "printed": read(printed, limit), "returned": read(returned, limit)}


def attempt(task: dict[str, Any], case: dict[str, Any], returned: IO[bytes]) -> int:
    """Run the case in this process; its exit code."""
    kind = case["kind"]
    module = types.ModuleType("__main__" if kind == "stdin" else "response")
    sys.modules[module.__name__] = module
    try:
        if kind != "stdin":
            exec(task["preamble"], module.__dict__)
        exec(compile(task["code"], "<response>", "exec"), module.__dict__)
        if kind == "call":
            function, arguments = case["given"]
            owner = module.Solution() if hasattr(module, "Solution") else module
            returned.write(json.dumps(getattr(owner, function)(*arguments), default=repr).encode())
        elif kind == "assert":
            exec(compile(case["given"], "<test>", "exec"), module.__dict__)
            returned.write(b"true")  # that code which exits early doesn't get to
        returned.flush()
        return 0
    except SystemExit as error:
        return 0 if error.code in (None, 0) else BUG
    except AssertionError as error:
        return WRONG if traceback.extract_tb(error.__traceback__)[-1].filename == "<test>" else BUG
    except BaseException:
        return BUG


def leave(code: int) -> NoReturn:
    try:
        sys.stdout.flush()
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


def read(file: IO[bytes], max_bytes: int) -> str:
    file.seek(0)
    return file.read(max_bytes).decode("utf-8", "replace")


if __name__ == "__main__":
    main()
