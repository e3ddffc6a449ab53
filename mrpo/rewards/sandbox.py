"""Run code that nobody has read: no network, no files but the system's and Python's, none of them writable, limits.

By bubblewrap, or by ``unshare`` of util-linux, which needs root or unprivileged user namespaces; without either code is
refused, never run unprotected. Inside there is no ``/proc``, no home, an empty environment, and 64 MiB of ``/tmp``. A
hole in the kernel is a hole in this; where that matters, score in machines made for it.
"""

from __future__ import annotations

import functools
import os
import select
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import IO

from mrpo.errors import unknown_name

STARTING = 30.0
"""Seconds in which the sandbox must be set up."""
OUTPUT = 1 << 20
"""Bytes of each output that are returned; the rest is cut."""
LARGEST_FILE = 16 << 20
"""Bytes that a file or an output may have; writing more is an error to the code."""
TMP = 64 << 20
DEVICES = [f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom")]
READ_ONLY = "-o ro,nosuid,nodev"
ENVIRONMENT = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "HOME": "/tmp", "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"}
LANGUAGES = {"python": [sys.executable, "-I"], "sh": ["/bin/sh"]}


class SandboxError(RuntimeError):
    """The code wasn't run, for no fault of its own."""


@dataclass(frozen=True)
class Result:
    """What the code did. ``exit_code`` is 128 + n after signal n."""

    stdout: str
    stderr: str
    exit_code: int
    timed_out: bool


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

    ``memory_gib`` is what each of its processes may address, ``processes`` how many processes and threads it may have.

    Raises:
        SandboxError: no sandbox works here, or it failed to start.
        ConfigError: ``language`` is none of ``LANGUAGES``.
    """
    if language not in LANGUAGES:
        raise unknown_name("language", language, LANGUAGES)
    limits = {
        "as": int(memory_gib * 2**30),
        "nproc": processes,
        "cpu": ceil(seconds) + 1,
        "fsize": LARGEST_FILE,
        "nofile": 64,
        "core": 0,
    }
    return _run(find_sandbox(), code, stdin, seconds, limits, LANGUAGES[language])


@functools.cache
def find_sandbox() -> str:
    """The name of the first sandbox that works here.

    Raises:
        SandboxError: none does. Says why each doesn't, and what to install.
    """
    # Root has no limit on its number of processes, so it must become another user, which bubblewrap can't do for it.
    reasons = []
    for name in ("unshare as root",) if os.geteuid() == 0 else ("bwrap", "unshare"):
        try:
            _run(name, "", "", 10.0, {"nofile": 64}, LANGUAGES["python"])
        except (SandboxError, OSError) as error:
            reasons.append(f"{name}: {error}")
        else:
            return name
    raise SandboxError(
        f"no sandbox for untrusted code works here ({'; '.join(reasons)}). Install bubblewrap (apt install bubblewrap) "
        "and util-linux and allow unprivileged user namespaces, or be root with CAP_SYS_ADMIN, or use a sandbox server."
    )


def _run(name: str, code: str, stdin: str, seconds: float, limits: dict[str, int], interpreter: list[str]) -> Result:
    with tempfile.TemporaryDirectory() as temporary, _file(stdin) as given, _file() as out, _file() as err:
        folder = Path(temporary)
        main, ready = folder / "code" / "main", folder / "ready"
        main.parent.mkdir()
        main.write_text(code, "utf-8", "replace")
        main.parent.chmod(0o755)
        main.chmod(0o644)
        os.mkfifo(ready)
        command = [
            *("setpriv", "--pdeathsig", "KILL", "/bin/sh", "-c", 'exec 3>"$0"; exec "$@"', str(ready)),
            *(_by_bwrap(folder) if name == "bwrap" else _by_unshare(folder, name == "unshare as root")),
            *("prlimit", *(f"--{limit}={value}" for limit, value in limits.items())),
            # Says that all is in place, and leaves the code no way to say so.
            *("/bin/sh", "-c", 'echo >&3; exec 3>&-; exec "$@"', "sh", *interpreter, "/code/main"),
        ]
        with (
            open(os.open(ready, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as signs,
            subprocess.Popen(
                command, stdin=given, stdout=out, stderr=err, cwd="/", env=ENVIRONMENT, start_new_session=True
            ) as process,
        ):
            started = timed_out = False
            try:
                started = _readable(signs, STARTING) and bool(signs.read(1))
                if started:
                    process.wait(seconds)
            except subprocess.TimeoutExpired:
                timed_out = True
            finally:
                if process.returncode is None:
                    os.killpg(process.pid, signal.SIGKILL)
        if not started:
            raise SandboxError(f"the sandbox didn't start: {_read(err).strip()[-300:]}")
        exit_code = process.returncode if process.returncode >= 0 else 128 - process.returncode
        return Result(_read(out), _read(err), exit_code, timed_out)


def _by_bwrap(folder: Path) -> list[str]:
    links = [part for path in _visible() if os.path.islink(path) for part in ("--symlink", os.readlink(path), path)]
    binds = [part for path in _visible() if not os.path.islink(path) for part in ("--ro-bind", path, path)]
    devices = [part for path in DEVICES for part in ("--dev-bind", path, path)]
    return [
        *("bwrap", "--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session"),
        *("--cap-drop", "ALL", "--size", str(TMP), "--tmpfs", "/tmp"),  # first: Python may lie below it
        *(*links, *binds, *devices, "--ro-bind", str(folder / "code"), "/code"),
        *("--chdir", "/tmp", "--remount-ro", "/", "--"),
    ]


def _by_unshare(folder: Path, root: bool) -> list[str]:
    """Build the new root in a mount namespace, and ``chroot``, inside which the kernel lets nobody make user
    namespaces. As root the code gets a user of its own, so that its processes are counted apart."""
    (folder / "root").mkdir()
    lines = [
        *("set -e", "new=$1", "shift", 'mount -t tmpfs -o mode=755,size=1m,nosuid,nodev tmpfs "$new"'),
        'mkdir "$new/code" "$new/tmp"',
        f'mount -t tmpfs -o mode=1777,size={TMP},nosuid,nodev tmpfs "$new/tmp"',  # first: Python may lie below it
    ]
    for path in map(shlex.quote, [*_visible(), *DEVICES]):
        lines.append(f'mkdir -p "$new"$(dirname {path})')
        if os.path.islink(path):
            lines.append(f'ln -s {shlex.quote(os.readlink(path))} "$new"{path}')
        else:
            lines.append(f'mkdir -p "$new"{path}' if os.path.isdir(path) else f': > "$new"{path}')
            lines.append(f'mount --bind {"" if path in DEVICES else READ_ONLY} {path} "$new"{path}')
    lines += [
        f'mount --bind {READ_ONLY} "$new/../code" "$new/code"',
        'mount -o remount,bind,ro,nosuid,nodev "$new"',
        # Not exec: this shell stays as the namespace's first process, and all others end with it.
        'chroot "$new" /bin/sh -c \'cd /tmp; exec "$@"\' sh "$@" || exit $?',
    ]
    user = 20_000 + threading.get_native_id() % 40_000
    return [
        *("unshare", "--net", "--pid", "--mount", "--ipc", "--uts", "--fork", "--kill-child=KILL"),
        *(() if root else ("--user", "--map-root-user")),
        *("/bin/sh", "-c", "\n".join(lines), "sh", str(folder / "root")),
        *("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"),
        *(("--reuid", str(user), "--regid", str(user), "--clear-groups") if root else ()),
    ]


def _visible() -> list[str]:
    """What of the file system there is inside: the system's programs and libraries, and Python's."""
    system = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/etc/alternatives")
    python = (Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).resolve().parents[1])
    real = {str(path.resolve()) for path in python if not path.is_relative_to("/usr")}
    seen = [path for path in (*system, *sorted(real)) if os.path.lexists(path)]
    link = sys.executable
    while os.path.islink(link):  # the links from a virtual environment to its Python may lead over other folders
        link = os.path.normpath(os.path.join(os.path.dirname(link), os.readlink(link)))
        if not any(Path(link).is_relative_to(path) for path in seen):
            seen.append(link)
    return seen


def _readable(file: IO[bytes], seconds: float) -> bool:
    poll = select.poll()
    poll.register(file, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _file(text: str = "") -> IO[bytes]:
    file = tempfile.TemporaryFile()  # noqa: SIM115
    file.write(text.encode("utf-8", "replace"))
    file.seek(0)
    return file


def _read(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read(OUTPUT).decode("utf-8", "replace")
