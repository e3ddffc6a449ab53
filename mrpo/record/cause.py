"""From a hundred frames to the few lines that matter: what went wrong, where, in whose process.

Ray nests tracebacks: a driver's text holds the outer actor's, which holds the inner actor's. Python chains them with
"The above exception was the direct cause …" (the earlier one is the cause) or "During handling of …" (the later one is
what went wrong; the earlier one is only what was going on).
"""

from __future__ import annotations

import re
from typing import NamedTuple

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
CHAIN = re.compile(r"^(The above exception was the direct cause of|During handling of the above exception).*$", re.M)
_FRAME = re.compile(r'^\s*File "(?P<file>[^"\n]+)", line (?P<line>\d+), in (?P<function>.+)$', re.MULTILINE)
_RAY_CALL = re.compile(r"ray::(?P<call>[\w.<>]+)\([^)]*\) \(pid=(?P<pid>\d+)")
_ERROR_LINE = re.compile(r"^(?P<type>[A-Za-z_][\w.]*)(?:: .*)?$", re.MULTILINE)
_LIBRARY = re.compile(r"/(site|dist)-packages/|/lib/python3\.\d+/|^<")
_MAX_LINES, _MAX_WIDTH = 8, 600


class _Error(NamedTuple):
    kind: str
    message: str
    place: str


class _Chain(NamedTuple):
    """The errors of a traceback in the order they were raised, and which of them is what went wrong."""

    errors: list[_Error]
    root: int


def root_cause(text: str) -> str:
    """The innermost cause that a traceback tells, in a few lines: the error, the user's frame, the actor, what it led
    to. Never empty: where no cause was found, it says so."""
    if not text.strip():
        return "unknown cause: the error came without a text"
    errors, root = _chain(text)
    lines = [errors[root].message, *([errors[root].place] if errors[root].place else [])]
    lines += [f"  which led to {_headline(error)}" for error in errors[root + 1 :]]
    if root:
        lines.append(f"  while handling {_headline(errors[root - 1])}")
    return "\n".join(lines)


def cause_in_a_line(text: str) -> str:
    """The same of a traceback, without what it led to: the error, the user's frame, what was being handled."""
    errors, root = _chain(text)
    place = errors[root].place.partition("\n")[0].strip()
    handled = f"while handling {_headline(errors[root - 1])}" if root else ""
    return ", ".join(filter(None, (_headline(errors[root]), place, handled)))


def _chain(text: str) -> _Chain:
    pieces = CHAIN.split(_ANSI.sub("", text))  # error, the words that join it to the next one, error, …
    errors, joints = [_read(piece) for piece in pieces[::2]], pieces[1::2]
    root = len(errors) - 1
    while root and joints[root - 1].startswith("The above"):
        root -= 1
    return _Chain(errors, root)


def _read(part: str) -> _Error:
    frames = list(_FRAME.finditer(part))
    tail = part[frames[-1].end() :] if frames else part
    found = _ERROR_LINE.search(tail)  # Ray's own "RayTaskError(…): ray::…" has brackets, so it never matches
    if found:
        rest = tail[found.start() :].strip().splitlines()[:_MAX_LINES]
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
