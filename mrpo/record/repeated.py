"""Log lines that repeat themselves: written once, and then counted. A line a rollout would fill a disk in a month."""

from __future__ import annotations

import logging
import re
from typing import Any

ENV = "MRPO_COUNT_REPEATED_LINES"
"""Set in the processes of a run, which do it."""
MAX_KNOWN = 10_000
"""Different lines that are remembered; with more, counting begins anew."""


class Repeated(logging.Filter):
    """Lets a line pass the first time, and then its tenth, hundredth, thousandth, … time with the number added.

    Lines are the same that come from the same place and differ in numbers alone. Errors always pass.
    """

    def __init__(self) -> None:
        super().__init__()
        self.times: dict[tuple[str, int, str], int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.ERROR:
            return True
        try:
            message = record.getMessage()
        except Exception:  # whoever handles it says what is wrong with it
            return True
        if len(self.times) >= MAX_KNOWN:
            self.times.clear()
        line = record.pathname, record.lineno, re.sub(r"\d+", "#", message)
        times = self.times[line] = self.times.get(line, 0) + 1
        if times > 1:
            record.msg, record.args = f"{message} ({times} times so far)", None
        return str(times).strip("0") == "1"


def install() -> None:
    """Filter what this process logs by Python's ``logging``, whichever logger and handler it goes through."""
    if getattr(logging.Logger.handle, "is_filtered", False):
        return
    handle: Any = logging.Logger.handle
    repeated = Repeated()

    def handle_first(self: logging.Logger, record: logging.LogRecord) -> None:
        if not self.disabled and self.isEnabledFor(record.levelno) and repeated.filter(record):
            handle(self, record)

    handle_first.is_filtered = True  # type: ignore[attr-defined]
    logging.Logger.handle = handle_first  # type: ignore[method-assign]
