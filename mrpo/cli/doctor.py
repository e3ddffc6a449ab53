"""Show what this machine has, and what to do about what it lacks.

The exit code is 1 if anything needs attention.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import resource
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from packaging.requirements import Requirement
from rich.console import Console
from rich.text import Text

from mrpo.cli._app import examples, new_app
from mrpo.cli._table import table
from mrpo.driver.private_folder import FALLBACK, left_behind, remove_left_behind, shared_memory, temporary_folder
from mrpo.exit_code import ExitCode

MIN_SHARED_MEMORY, MIN_MEMORY, MIN_DISK, MIN_FILES = 1 << 30, 6 << 30, 2 << 30, 4096

app = new_app()


class Finding(NamedTuple):
    """One thing looked at. ``advice`` is empty where all is well."""

    what: str
    found: str
    advice: str = ""


@app.command(help=__doc__, epilog=examples("mrpo doctor", "mrpo doctor --clean", "mrpo doctor --clean --yes"))
def doctor(
    clean: Annotated[
        bool, typer.Option("--clean", help="Show what killed runs left outside their run folders.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --clean: remove it.")] = False,
) -> ExitCode:
    if clean:
        return _clean(yes)
    findings = list(examine())
    rows = ((Text("x", "red") if finding.advice else Text("ok", "green"), *finding) for finding in findings)
    Console().print(table("", ("", "what", "found", "what to do"), rows, text_columns=4))
    return ExitCode.FAILED if any(finding.advice for finding in findings) else ExitCode.DONE


def _clean(remove: bool) -> ExitCode:
    """Only what is this user's, and whose owner's lock nobody holds any more."""
    parents = dict.fromkeys((temporary_folder(), FALLBACK))
    found = [left for parent in parents for left in left_behind(parent)]
    for path, owner in found:
        for each in (path, *shared_memory(path)):
            print(f"{'remove' if remove else 'left'}: {each}  (of {owner})")
    if not found:
        print("nothing is left of killed runs")
    elif not remove:
        print("remove it: mrpo doctor --clean --yes")
    left = [path for parent in parents if remove for path in _not_removed(parent)]
    for path in left:
        print(f"mrpo: {path} could not be removed", file=sys.stderr)
    return ExitCode.FAILED if left else ExitCode.DONE


def _not_removed(parent: Path) -> list[Path]:
    remove_left_behind(parent)
    return [path for path, _ in left_behind(parent)]


def examine() -> Iterator[Finding]:
    version = sys.version_info[:2]
    yield Finding(
        "Python", platform.python_version(), "" if (3, 11) <= version < (3, 13) else "use Python 3.11 or 3.12"
    )
    gpus = sorted(Path("/dev").glob("nvidia[0-9]*"))
    yield Finding("device", f"{len(gpus)} GPUs" if gpus else f"CPU, {len(os.sched_getaffinity(0))} cores")
    yield from versions("gpu" if gpus else "cpu")
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    yield _size("memory", memory, MIN_MEMORY, "the quickstart needs about 6 GiB")
    shared = shutil.disk_usage("/dev/shm").total if Path("/dev/shm").is_dir() else 0
    yield _size("shared memory (/dev/shm)", shared, MIN_SHARED_MEMORY, "in a container: --shm-size=2g or an emptyDir")
    folder = temporary_folder()
    free = shutil.disk_usage(folder).free
    yield _size(f"free disk in {folder}", free, MIN_DISK, "Ray keeps its session there: free some, or set TMPDIR")
    if left := list(left_behind(folder)):
        yield Finding("left of killed runs", f"{len(left)} folders in {folder}", "mrpo doctor --clean")
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    yield Finding("open-file limit", str(files), "" if files >= MIN_FILES else f"ulimit -n {MIN_FILES}")


def versions(extra: str) -> Iterator[Finding]:
    """Installed versions against mrpo's pins, and against the lock where the checkout is at hand."""
    try:
        declared = [Requirement(text) for text in importlib.metadata.requires("mrpo") or []]
    except importlib.metadata.PackageNotFoundError:
        yield Finding("mrpo", "not installed", "make install")
        return
    for requirement in declared:
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        found = _version(requirement.name)
        if found is None:
            yield Finding(requirement.name, "not installed", f"make install DEVICE={extra}")
        elif not requirement.specifier.contains(found, prereleases=True):
            yield Finding(requirement.name, found, f"mrpo needs {requirement.specifier}: make install DEVICE={extra}")
        elif "==" in str(requirement.specifier):
            yield Finding(requirement.name, found)
    lock = Path(__file__).parents[2] / "requirements" / f"{extra}.txt"
    if lock.is_file():
        locked = pins(lock.read_text())
        off = [f"{n} {_version(n) or 'missing'}, not {v}" for n, v in locked.items() if _version(n) != v]
        yield Finding(
            f"lock, {len(locked)} packages", "; ".join(off[:5]) or "all as pinned", "make install" if off else ""
        )


def pins(lock: str) -> dict[str, str]:
    """Name to version.

    >>> pins("a-b==1.0 \\\\\\n    --hash=sha256:0\\n# c==2\\nd==3 ; python_version < '4'\\n")
    {'a-b': '1.0', 'd': '3'}
    """
    return dict(re.findall(r"^([\w.-]+)==([^\s;]+)", lock, re.MULTILINE))


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _size(what: str, found: int, minimum: int, advice: str) -> Finding:
    return Finding(what, f"{found / (1 << 30):.1f} GiB", "" if found >= minimum else advice)
