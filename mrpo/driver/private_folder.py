"""The folder that an attempt's processes share on this machine, and nobody else: Ray's session, sockets, a token.

::

    $TMPDIR/mrpo-XXXXXXXX/    0700, this user's
      owner.json      the process that made it, locked for as long as that lives
      token           the password of this attempt's Ray
      python          what Ray starts instead of python (``fork_server``), and fork.sock, which it asks
      ray/            Ray's session. Ray opens its folder to everybody, so it lies below one that isn't
      tmp/            TMPDIR of every process: engines keep their sockets there

Whoever can rename one of these becomes the user who trains, so nobody but that user may reach them, nor rename a folder
above them. A lock says that the owner lives (``mrpo.owned``).
"""

from __future__ import annotations

import glob
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mrpo.errors import ConfigError
from mrpo.owned import OWNER, PREFIX, own, take_lock

SHARED_MEMORY = "MRPO_SHARED_MEMORY"
"""Environment variable with the prefix of the run's segments in ``/dev/shm``: its private folder's name."""
RAY_SOCKET = "ray/session_2026-01-31_12-00-00_000000_4194304/sockets/plasma_store"
"""The longest name of a socket below the folder."""
MAX_SOCKET_PATH = 107
MIN_FREE_MIB = 128
"""Of a run's temporary folder: Ray's session, the logs of all processes until they are collected, sockets."""
FALLBACK = Path("/tmp")
"""For a TMPDIR so long that a socket's path wouldn't fit, which Linux limits."""


class PrivateFolder:
    """Made for this process; ``remove`` it at the end.

    Raises:
        ConfigError: somebody else could rename what lies in ``parent`` (default: ``temporary_folder()``).
    """

    def __init__(self, parent: Path | None = None):
        parent = temporary_folder() if parent is None else parent
        if reason := untrusted(parent):
            raise ConfigError(f"TMPDIR: given {parent}, allowed: one in which nobody else renames files ({reason}).")
        require_usable(parent)
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        require_private(self.path)
        self.ray, self.tmp, self.token = (self.path / name for name in ("ray", "tmp", "token"))
        self._lock = own(self.path)
        for folder in (self.ray, self.tmp):
            folder.mkdir(mode=0o700)
        with open(os.open(self.token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32))

    def environment(self) -> dict[str, str]:
        """What the processes of one machine get, so that they stay in this folder and off the network."""
        return {
            "TMPDIR": str(self.tmp),
            "GLOO_SOCKET_IFNAME": "lo",
            "NCCL_SOCKET_IFNAME": "lo",
            "VLLM_HOST_IP": "127.0.0.1",
            SHARED_MEMORY: self.path.name,
        }

    def remove(self) -> None:
        """Remove it, and the shared memory of the processes that have used it, all of which have ended."""
        _remove(self.path)
        os.close(self._lock)


class Left(NamedTuple):
    """A folder whose owner is dead: a run's, or the temporary one of a reward's process or of a sandbox."""

    path: Path
    owner: str


def temporary_folder() -> Path:
    """TMPDIR, or where the system keeps temporary files; ``/tmp`` if that is too long for a socket's path.

    >>> temporary_folder().is_absolute()
    True
    """
    folder = Path(tempfile.gettempdir()).resolve()
    longest = folder / f"{PREFIX}12345678" / RAY_SOCKET
    return folder if len(os.fsencode(longest)) <= MAX_SOCKET_PATH else FALLBACK


def left_behind(parent: Path) -> Iterator[Left]:
    """This user's folders in ``parent`` whose owner was killed."""
    for path in sorted(parent.glob(f"{PREFIX}*")):
        if _is_remnant(path):
            yield Left(path, "unknown")
        if not _is_private(path):
            continue
        lock = take_lock(path / OWNER)
        if lock is not None:
            owner = os.pread(lock, 4096, 0).decode("utf-8", "replace")
            os.close(lock)
            yield Left(path, owner)


def remove_left_behind(parent: Path) -> list[Path]:
    """Remove them. Returns those that are gone."""
    removed = []
    for left in left_behind(parent):
        _remove(left.path)
        if not left.path.exists():
            removed.append(left.path)
    return removed


def require_private(folder: Path) -> None:
    """Raises PermissionError unless ``folder`` is this user's, and nobody else can open it."""
    if not _is_private(folder):
        raise PermissionError(f"{folder} is not a folder of this user's alone")


def require_usable(folder: Path) -> None:
    """Raises ConfigError unless programs can be started from ``folder``, and it has room for Ray's session and logs."""
    what = f"TMPDIR: given {folder}" if os.environ.get("TMPDIR") else f"TMPDIR: not set, so {folder} is used"
    try:
        status = os.statvfs(folder)
    except OSError as error:
        raise ConfigError(f"{what}, which can't be used: {error.strerror}.") from None
    if status.f_flag & os.ST_NOEXEC:
        raise ConfigError(f"{what}, which is mounted noexec. Allowed: a folder that programs can be started from.")
    free = status.f_bavail * status.f_frsize >> 20
    if free < MIN_FREE_MIB:
        raise ConfigError(f"{what}, where {free} MiB are free. Allowed: a folder with {MIN_FREE_MIB} MiB.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(f"{what}, where this user can't make files. Allowed: a folder in which it can.")


def untrusted(folder: Path) -> str:
    """Why somebody else than this user (or root) could rename what is in ``folder``; empty if nobody can.

    >>> untrusted(Path("/"))
    ''
    """
    trusted = {0, os.geteuid(), os.stat("/").st_uid}  # in a container, the root of its file system may be another's
    try:
        folder = folder.resolve(strict=True)
        for each in (folder, *folder.parents):
            status = each.stat()
            if status.st_uid not in trusted:
                return f"{each} belongs to user {status.st_uid}"
            if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not status.st_mode & stat.S_ISVTX:
                return f"{each} can be written by others and has no sticky bit"
    except OSError as error:
        return f"{error.filename or folder}: {error.strerror}"
    return ""


def shared_memory(folder: Path) -> list[Path]:
    """Segments of the processes of this private folder."""
    own = Path("/dev/shm").glob(f"{glob.escape(folder.name)}-*")
    return [segment for segment in own if segment.lstat().st_uid == os.geteuid()]


def _remove(folder: Path) -> None:
    for segment in shared_memory(folder):
        segment.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def _is_remnant(folder: Path) -> bool:
    """Ray's processes, which end seconds after their owner was killed, have made their part of a removed one again."""
    name = re.fullmatch(rf"{re.escape(PREFIX)}[a-z0-9_]{{8}}", folder.name)
    try:
        return bool(name) and folder.lstat().st_uid == os.geteuid() and os.listdir(folder) == ["ray"]
    except OSError:
        return False


def _is_private(folder: Path) -> bool:
    try:
        status = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077
