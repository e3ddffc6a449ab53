"""From a hundred frames to the few lines that matter: what went wrong, where, in whose process.

Ray nests tracebacks: a driver's text holds the outer actor's, which holds the inner actor's. Python chains them with
"The above exception was the direct cause …" (the earlier one is the cause) or "During handling of …" (the later one is
what went wrong; the earlier one is only what was going on).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_LOG_PREFIX = re.compile(r"^(\([^()\n]*pid=\d+\) ?)?((ERROR|CRITICAL) \d\d-\d\d [\d:.]+ \[[^\]\n]+\] ?)?", re.MULTILINE)
_CHAIN = re.compile(r"^(The above exception was the direct cause of|During handling of the above exception).*$", re.M)
_FRAME = re.compile(r'^\s*File "(?P<file>[^"\n]+)", line (?P<line>\d+), in (?P<function>.+)$', re.MULTILINE)
_RAY_CALL = re.compile(r"ray::(?P<call>[\w.<>]+)\([^)]*\) \(pid=(?P<pid>\d+)")
_ERROR_LINE = re.compile(r"^(?P<type>[A-Za-z_][\w.]*)(?:: .*)?$", re.MULTILINE)
_LIBRARY = re.compile(r"/(site|dist)-packages/|/lib/python3\.\d+/|^<")
_START = re.compile(r"^(Traceback \(most recent call last\):|Exception raised in creation task:).*$", re.MULTILINE)
_CONSEQUENCE = re.compile(
    r"(\w*(ActorDied|RayActor|ActorUnavailable|EngineDead|WorkerCrashed|NodeDied|Connection|BrokenPipe|DistBackend)\w*"
    r"|KeyboardInterrupt|SystemExit|CancelledError|EOFError)$"
)
_NATIVE = re.compile(r"^.*(Fatal Python error|Segmentation fault|SIG(SEGV|BUS|ABRT|ILL)|[Oo]ut of memory).*$", re.M)
_MAX_LINES, _MAX_WIDTH = 8, 300


class _Error(NamedTuple):
    kind: str
    message: str
    place: str


class _Chain(NamedTuple):
    """The errors of a traceback in the order they were raised, and which of them is what went wrong."""

    errors: list[_Error]
    root: int


def root_cause(source: str | Path) -> str:
    """The innermost cause of a failure in a few lines: the error, the user's frame, the actor, what it led to.

    Args:
        source: a traceback's text, or as a ``Path`` the folder of a run's logs, where the last error that isn't the
            mere consequence of another process's death is taken.
    Returns:
        Never empty: where no cause was found, it says so and where it looked.
    """
    return _from_logs(source) if isinstance(source, Path) else _from_text(source)


def _from_text(text: str, max_lines: int = _MAX_LINES) -> str:
    if not text.strip():
        return "unknown cause: the error came without a text"
    errors, root = _chain(text, max_lines)
    lines = [errors[root].message, *([errors[root].place] if errors[root].place else [])]
    lines += [f"  which led to {_headline(error)}" for error in errors[root + 1 :]]
    if root:
        lines.append(f"  while handling {_headline(errors[root - 1])}")
    return "\n".join(lines)


def _chain(text: str, max_lines: int) -> _Chain:
    pieces = _CHAIN.split(_ANSI.sub("", text))  # error, the words that join it to the next one, error, …
    errors, joints = [_read(piece, max_lines) for piece in pieces[::2]], pieces[1::2]
    root = len(errors) - 1
    while root and joints[root - 1].startswith("The above"):
        root -= 1
    return _Chain(errors, root)


def _read(part: str, max_lines: int) -> _Error:
    frames = list(_FRAME.finditer(part))
    tail = part[frames[-1].end() :] if frames else part
    found = _ERROR_LINE.search(tail)  # Ray's own "RayTaskError(…): ray::…" has brackets, so it never matches
    if found:
        rest = tail[found.start() :].strip().splitlines()[:max_lines]
        kind, message = found["type"], "\n  ".join(_short(line) for line in rest)
    else:
        kind, message = "", _short((tail.strip() or part.strip()).splitlines()[-1])
    calls = list(_RAY_CALL.finditer(part))
    within = [frame for frame in frames if not calls or frame.start() > calls[-1].start()] or frames
    users = [frame for frame in within if not _LIBRARY.search(frame["file"])]
    place = []
    if frame := next(reversed(users or within), None):
        place.append(f"  at {frame['file']}:{frame['line']}, in {frame['function']}")
    if calls:
        place.append(f"  in {calls[-1]['call']}, process {calls[-1]['pid']}")
    return _Error(kind, message, "\n".join(place))


def _headline(error: _Error) -> str:
    return error.message.splitlines()[0]


def _short(line: str) -> str:
    line = line.strip()
    return line if len(line) <= _MAX_WIDTH else line[: _MAX_WIDTH - 1] + "…"


def _from_logs(folder: Path) -> str:
    files = [file for file in folder.rglob("*") if file.suffix in {".err", ".out", ".log"} and file.is_file()]
    files.sort(key=lambda file: file.stat().st_mtime, reverse=True)
    consequence = crash = ""
    for file in files:
        text = _LOG_PREFIX.sub("", _ANSI.sub("", file.read_text(encoding="utf-8", errors="replace")))
        if trace := _last_traceback(text):
            cause = f"{_from_text(trace, max_lines=1)}\n  log: {file}"
            errors, root = _chain(trace, max_lines=1)
            if not _CONSEQUENCE.search(errors[root].kind):
                return cause
            consequence = consequence or cause
        elif match := _NATIVE.search(text):
            crash = crash or f"{_short(match[0])}\n  log: {file}"
    return crash or consequence or f"unknown cause: no traceback in the {len(files)} log files under {folder}"


def _last_traceback(text: str) -> str:
    """From the start of the last chain of tracebacks on; empty if there is none."""
    starts = [match.start() for match in _START.finditer(text)]
    while len(starts) > 1 and _CHAIN.search(text[starts[-2] : starts[-1]]) is not None:
        joint = list(_CHAIN.finditer(text[starts[-2] : starts[-1]]))[-1]
        if text[starts[-2] + joint.end() : starts[-1]].strip():
            break
        starts.pop()
    return text[starts[-1] :] if starts else ""
