"""The parent of a process that scores: when that ends, or when it is told to end, it leaves nothing behind.

Run as ``python -m mrpo.rewards.supervisor FD PARENT FOLDER``; it forks at once, and the copy becomes ``child``. All
that a reward starts stays among its descendants, daemons too, since orphans are given to it and not to init; it kills
them all, removes FOLDER, which is their TMPDIR, and ends as the process did. SIGTERM, or the end of PARENT, has it end
at once. Quick to import: a hang costs one such process.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import sys
import time
from typing import NoReturn

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER, PR_SET_DUMPABLE = 1, 36, 4
ENDING = 5.0
"""Seconds in which what is killed must be gone."""


class _EndError(BaseException):
    """The pool, or the kernel after the pool's end, has sent SIGTERM."""


def main() -> None:
    descriptor, parent, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    prctl = ctypes.CDLL(None).prctl
    status = None
    try:
        signal.signal(signal.SIGTERM, _end)  # it may come at once
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        scorer = os.fork()
        if scorer == 0:
            _become_child(descriptor, os.getppid())
        os.close(descriptor)
        if os.getppid() == parent:
            status = _wait_for(scorer)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the pool may send it just as the process has ended
    except _EndError:
        pass
    kill_descendants()
    remove_groups(folder)
    shutil.rmtree(folder, ignore_errors=True)
    _end_like(status)


def _become_child(descriptor: int, parent: int) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.setsid()  # so that signals to its group don't reach the supervisor
    sys.argv = [sys.argv[0], str(descriptor), str(parent)]
    from mrpo.rewards.child import main as score

    score()
    os._exit(0)


def _wait_for(scorer: int) -> int:
    """The status that ``scorer`` ended with; orphans that end meanwhile are taken from the kernel's table."""
    while True:
        ended, status = os.wait()
        if ended == scorer:
            return status


def kill_descendants() -> None:
    """Kill all that descends from this process, and what that starts meanwhile, until nothing is left."""
    end, pause = time.monotonic() + ENDING, 0.001
    while time.monotonic() < end:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:  # nothing is left, as mostly, and ``/proc`` needn't be read
            return
        for process in descendants():
            with contextlib.suppress(OSError):
                os.kill(process, signal.SIGKILL)
        time.sleep(pause)
        pause = min(2 * pause, 0.05)


def descendants() -> list[int]:
    """The processes that descend from this one, by ``/proc``."""
    children: dict[int, list[int]] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
            parent = int(file.read().rpartition(b")")[2].split()[1])
            children.setdefault(parent, []).append(int(name))
    found = [os.getpid()]
    for process in found:  # grows
        found += children.get(process, [])
    return found[1:]


def remove_groups(folder: str) -> None:
    """Remove the control groups of the sandboxes in ``folder``, each of which has a link to its own."""
    for sandbox in os.scandir(folder):
        with contextlib.suppress(OSError):
            os.rmdir(os.readlink(os.path.join(sandbox.path, "group")))


def _end_like(status: int | None) -> NoReturn:
    if status is None:
        os._exit(0)
    if os.WIFSIGNALED(status):
        with contextlib.suppress(OSError, ValueError):  # SIGKILL has no handler
            signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [os.WTERMSIG(status)])
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0)  # a dump would be of this process and not of the one that crashed
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.WEXITSTATUS(status))


def _end(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough: a second one must not end the cleaning up
    raise _EndError


if __name__ == "__main__":
    main()
