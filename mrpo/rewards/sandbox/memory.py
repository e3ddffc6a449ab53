"""A sandbox's memory, limited as a whole by a control group of the kernel, where this process may make one.

Version 2 wants a folder above this process's own in which the memory controller is on, as systemd delegates it to
users; version 1 a memory group that can be written to, as root has it.
"""

from __future__ import annotations

import contextlib
import functools
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

LIMITS = ("memory.max", "memory.limit_in_bytes")
"""Of version 2 and of version 1."""
SWAP = (("memory.swap.max", "0"), ("memory.memsw.limit_in_bytes", ""))
"""And what a group may swap; "" stands for the limit, since version 1 counts memory with swap."""
PREFIX = "mrpo-sandbox-"
OLD = 3600.0
"""Seconds after which a group without a process is nobody's; one that was just made has none yet."""
REMOVING = 5.0
"""Seconds in which the processes of a killed sandbox must be gone."""
JOIN = 'echo $$ > "$0/cgroup.procs" && exec "$@"'
"""A shell's line: join the group ``$0``, become the command ``$@``."""


@functools.cache
def parent_group() -> Path | None:
    """Where groups with a limit can be made and joined; None: nowhere."""
    for folder in candidates(Path("/proc/self/cgroup").read_text(), Path("/proc/self/mountinfo").read_text()):
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            remove_old(folder)
            group = make(folder, 1 << 30)
            try:
                subprocess.run(["/bin/sh", "-c", JOIN, str(group), "true"], check=True, capture_output=True)
            finally:
                remove(group)
            return folder
    return None


def candidates(groups: str, mounts: str) -> Iterator[Path]:
    """Folders in which a memory group might be made, from ``/proc/self/cgroup`` and ``/proc/self/mountinfo``."""
    own = {controllers: path for _, controllers, path in (line.split(":", 2) for line in groups.splitlines())}
    for line in mounts.splitlines():
        fields, _, kind = line.partition(" - ")
        _, _, _, root, point, *_ = fields.split(" ")
        version, _, options = kind.split(" ", 2)
        if version == "cgroup2":
            inside = _below(own.get("", "/"), root)
            for folder in (Path(point, inside), *Path(point, inside).parents):
                if folder.is_relative_to(point) and "memory" in _words(folder / "cgroup.subtree_control"):
                    yield folder
        elif version == "cgroup" and "memory" in options.split(","):
            paths = [path for controllers, path in own.items() if "memory" in controllers.split(",")]
            yield from (Path(point, _below(path, root)) for path in paths)


def make(folder: Path, limit: int) -> Path:
    """A new group in ``folder`` whose processes may have ``limit`` bytes together.

    Raises:
        OSError: it can't be made or limited.
    """
    group = Path(tempfile.mkdtemp(prefix=PREFIX, dir=folder))
    try:
        next(group / name for name in LIMITS if (group / name).exists()).write_text(str(limit))
    except (OSError, StopIteration):
        group.rmdir()
        raise OSError(f"{group}: memory can't be limited") from None
    for name, value in SWAP:
        if (group / name).exists():
            with contextlib.suppress(OSError):
                (group / name).write_text(value or str(limit))
    return group


def remove(group: Path, seconds: float = REMOVING) -> None:
    """Remove ``group`` as its last processes are gone, within ``seconds``, or leave it."""
    end, pause = time.monotonic() + seconds, 0.001
    while True:
        try:
            return group.rmdir()
        except FileNotFoundError:
            return
        except OSError:  # busy: they are still ending
            if time.monotonic() > end:
                return
            time.sleep(pause)
            pause = min(2 * pause, 0.1)


def remove_old(folder: Path, seconds: float = OLD) -> None:
    """Remove groups in ``folder`` that were made ``seconds`` ago and have no process: what made them was killed."""
    for group in folder.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if time.time() - group.stat().st_ctime > seconds:
                group.rmdir()


def _below(path: str, root: str) -> str:
    """``path`` as seen below a mount of ``root``; the mount itself, if it isn't below."""
    return path[len(root) :].lstrip("/") if path.startswith(root) else ""


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []
