"""The last error that each process has written to its log: why a run stands still, where nobody is told.

An engine that fails in a weight update says so in its log alone, while the controller waits for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from mrpo.record.cause import CHAIN, root_cause

TAIL = 2**18
"""Bytes of a log that are looked at."""
_BEFORE = re.compile(
    r"^(\([^()\n]*pid=\d+[^()\n]*\) ?)?([A-Z]+ \d\d-\d\d \d\d:\d\d:\d\d \[[^\]\n]*\] ?)?", re.MULTILINE
)
"""What vLLM and Ray put before each line."""
_TRACEBACK = "Traceback (most recent call last):"


def last_errors(logs: Iterable[Path], most: int = 3) -> list[str]:
    """A line for each process whose log has a traceback: the cause of the last one. Those that wrote last come first.

    Args:
        logs: ``<Actor>-<pid>.{out,err}``, as ``collect_actor_logs`` leaves them.
        most: so many processes.
    """
    newest = sorted(logs, key=lambda log: log.stat().st_mtime, reverse=True)
    found: dict[str, str] = {}
    for log in newest:
        process = log.name.partition(".")[0]
        if process not in found and (cause := last_error(_tail(log))):
            found[process] = f"{process}: {cause}"
    return list(found.values())[:most]


def last_error(text: str) -> str | None:
    """The cause that the last traceback of a log tells, in a line; None: there is none.

    >>> last_error("fine\\nTraceback (most recent call last):\\n  File \\"a.py\\", line 1, in f\\nKeyError: 'x'\\nfine")
    "KeyError: 'x', at a.py:1, in f"
    """
    tracebacks = _BEFORE.sub("", text).split(_TRACEBACK)[1:]
    if not tracebacks:
        return None
    first = len(tracebacks) - 1
    while first and CHAIN.fullmatch(tracebacks[first - 1].rstrip().rpartition("\n")[2]):
        first -= 1
    said, *places = root_cause("".join(_TRACEBACK + one for one in tracebacks[first:])).splitlines()
    at = next((place.strip() for place in places if place.startswith("  at ")), None)
    return said if at is None else f"{said}, {at}"


def _tail(log: Path) -> str:
    with open(log, "rb") as stream:
        stream.seek(max(0, log.stat().st_size - TAIL))
        return stream.read().decode("utf-8", "replace")
