"""A limit on the time that a response's own doing may take, so that it is a score and not a failure.

Where a reward's work isn't linear in the response by itself (algebra, a schema, a pattern of the user's), it is done
within ``limited``.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

MAX_SECONDS = 5.0
"""CPU seconds, so that a busy machine doesn't change a score."""


class OutOfTimeError(BaseException):
    """What was done within ``limited`` took too long. No Exception, which libraries catch on the way."""


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Raise OutOfTimeError in what is done inside once it has taken MAX_SECONDS.

    Only in a main thread, which rewards are scored in; elsewhere Python can't interrupt anything, so there is no limit.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGVTALRM, _raise)
    # Again and again, since an exception in a destructor is lost.
    signal.setitimer(signal.ITIMER_VIRTUAL, MAX_SECONDS, 0.1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _raise(*_: object) -> None:
    raise OutOfTimeError
