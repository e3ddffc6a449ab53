"""The last error that each process has written to its log: why a run stands still, where nobody is told.

An engine that fails in a weight update says so in its log alone, while the controller waits for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from mrpo.record.cause import CHAIN, cause_in_a_line

TAIL = 2**18
"""Bytes of a log that are looked at."""
_BEFORE = re.compile(
    r"^(\([^()\n]*pid=\d+[^()\n]*\) ?)?([A-Z]+ \d\d-\d\d \d\d:\d\d:\d\d \[[^\]\n]*\] ?)?", re.MULTILINE
)
"""What vLLM and Ray put before each line."""
_PROCESS = re.compile(r"\(([^()\n]*pid=\d+[^()\n]*)\)")
_TRACEBACK = "Traceback (most recent call last):"


def last_errors(logs: Iterable[Path], most: int = 3) -> list[str]:
    """A line for each process whose log has a traceback: the cause of the last one. Logs that were written last come
    first, those of Ray's own services after all others; of one log, the process that failed first, as the others often
    only say that it has.

    Args:
        logs: ``<Actor>-<pid>.{out,err}`` and ``ray/<service>.{log,out,err}``, as ``collect_actor_logs`` leaves them.
        most: so many processes.
    """
    newest = sorted(logs, key=lambda log: (log.parent.name == "ray", -log.stat().st_mtime))
    found: dict[str, str] = {}
    for log in newest:
        for process, text in _by_process(_tail(log)).items():
            name = log.name.partition(".")[0] + (process and f" ({process})")
            if name not in found and (cause := last_error(text)):
                found[name] = f"{name}: {cause}"
    return list(found.values())[:most]


def _by_process(text: str) -> dict[str, str]:
    """The lines of a log by the process that is named before them, in the order of their last tracebacks.

    >>> _by_process("(A pid=1) one\\nmine\\n(A pid=1) two\\n")
    {'A pid=1': '(A pid=1) one\\n(A pid=1) two\\n', '': 'mine\\n'}
    """
    parts: dict[str, list[str]] = {}
    failed: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(keepends=True)):
        named = _PROCESS.match(line)
        process = named[1] if named else ""
        parts.setdefault(process, []).append(line)
        if _TRACEBACK in line:
            failed[process] = number
    return {process: "".join(parts[process]) for process in sorted(parts, key=lambda one: failed.get(one, -1))}


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
    return cause_in_a_line("".join(_TRACEBACK + one for one in tracebacks[first:]))


def _tail(log: Path) -> str:
    with open(log, "rb") as stream:
        stream.seek(max(0, log.stat().st_size - TAIL))
        return stream.read().decode("utf-8", "replace")
