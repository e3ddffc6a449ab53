"""The commands that build a sandbox around another command: which files there are, which namespaces, which user."""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

TMP = 64 << 20
"""Bytes of ``/tmp``."""
MAX_FILES = 10_000
"""In ``/tmp``; each takes about 1 KiB of the kernel's memory."""
DEVICES = [f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom")]
READ_ONLY = "-o ro,nosuid,nodev"
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/etc/alternatives")
PYTHON = ("bin", "lib", "lib64", "pyvenv.cfg", "share")
"""What of a Python's folder there is inside: others may lie beside it, where it is a project's folder, or a home."""
USERS = range(2_100_000_000, 2_100_000_000 + (1 << 24))
"""User numbers that neither people nor services, containers or directories (LDAP) have."""


def by_bwrap(folder: Path) -> list[str]:
    links = [part for path in visible() if os.path.islink(path) for part in ("--symlink", os.readlink(path), path)]
    binds = [part for path in visible() if not os.path.islink(path) for part in ("--ro-bind", path, path)]
    devices = [part for path in DEVICES for part in ("--dev-bind", path, path)]
    return [
        *("bwrap", "--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session"),
        *("--cap-drop", "ALL", "--size", str(TMP), "--tmpfs", "/tmp"),  # first: Python may lie below it
        *(*links, *binds, *devices, "--ro-bind", str(folder / "code"), "/code"),
        *("--chdir", "/tmp", "--remount-ro", "/", "--"),
    ]


def by_unshare(folder: Path) -> list[str]:
    """Build the new root in a mount namespace, and ``chroot``, inside which the kernel lets nobody make user
    namespaces. As root the code gets a user of its own, so that its processes are counted apart."""
    (folder / "root").mkdir()
    tmp_options = f"mode=1777,size={TMP},nr_inodes={MAX_FILES},nosuid,nodev"
    lines = [
        *("set -e", "new=$1", "shift", 'mount -t tmpfs -o mode=755,size=1m,nosuid,nodev tmpfs "$new"'),
        'mkdir "$new/code" "$new/tmp"',
        f'mount -t tmpfs -o {tmp_options} tmpfs "$new/tmp"',  # first: Python may lie below it
    ]
    for path in [*visible(), *DEVICES]:
        there, inside = shlex.quote(path), f'"$new"{shlex.quote(path)}'
        lines.append(f'mkdir -p "$new"{shlex.quote(os.path.dirname(path))}')
        if os.path.islink(path):
            lines.append(f"ln -s {shlex.quote(os.readlink(path))} {inside}")
        else:
            lines.append(f"mkdir -p {inside}" if os.path.isdir(path) else f": > {inside}")
            lines.append(f"mount --bind {'' if path in DEVICES else READ_ONLY} {there} {inside}")
    lines += [
        f'mount --bind {READ_ONLY} "$new/../code" "$new/code"',
        'mount -o remount,bind,ro,nosuid,nodev "$new"',
        # Not exec: this shell stays as the namespace's first process, and all others end with it.
        'chroot "$new" /bin/sh -c \'cd /tmp; exec "$@"\' sh "$@" || exit $?',
    ]
    root = os.geteuid() == 0
    user = str(free_user()) if root else ""
    return [
        *("unshare", "--net", "--pid", "--mount", "--ipc", "--uts", "--fork", "--kill-child=KILL"),
        *(() if root else ("--user", "--map-root-user")),
        *("/bin/sh", "-c", "\n".join(lines), "sh", str(folder / "root")),
        *("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"),
        *(("--reuid", user, "--regid", user, "--clear-groups") if root else ()),
    ]


def free_user() -> int:
    """A user number without a process, as far as can be seen, drawn anew each time.

    Of ``USERS``, or where this is a user namespace without them, of the upper half of its last range of numbers.
    """
    spans = [tuple(map(int, line.split())) for line in Path("/proc/self/uid_map").read_text().splitlines()]
    start, _, count = max(spans)
    users = USERS if USERS[0] >= start and USERS[-1] < start + count else range(start + count // 2, start + count)
    taken = set(_owners())
    while True:
        user = secrets.choice(users)
        if user not in taken or len(taken) >= len(users):
            return user


def visible() -> list[str]:
    """What of the file system there is inside: the system's programs and libraries, and Python's."""
    prefixes = (Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).resolve().parents[1])
    folders = sorted({path for prefix in prefixes for path in (prefix, prefix.resolve())})
    python = [str(path / part) for path in folders if not path.is_relative_to("/usr") for part in PYTHON]
    seen = [path for path in (*SYSTEM, *python) if os.path.lexists(path)]
    link = sys.executable
    while os.path.islink(link):  # the links from a virtual environment to its Python may lead over other folders
        link = os.path.normpath(os.path.join(os.path.dirname(link), os.readlink(link)))
        if not any(Path(link).is_relative_to(path) for path in seen):
            seen.append(link)
    return seen


def _owners() -> Iterator[int]:
    """The users of the processes that can be seen."""
    for entry in os.scandir("/proc"):
        with contextlib.suppress(OSError):  # it has ended
            if entry.name.isdigit():
                yield entry.stat().st_uid
