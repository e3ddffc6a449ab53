"""Writes what nobody waits for: in order, in one thread, a bounded number of writes behind."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType


class BackgroundWriter:
    """Owner of the writes under way. Ends, as a context, when all of them have.

    Args:
        behind: writes that may be under way; one more waits for the first of them.

    >>> written = []
    >>> with BackgroundWriter() as writer:
    ...     writer.submit(lambda: written.append("step 1"))
    ...     writer.settle()
    >>> written
    ['step 1']
    """

    def __init__(self, behind: int = 2):
        self.behind = behind
        self._thread = ThreadPoolExecutor(1, "write")
        self._writes: deque[Future[None]] = deque()

    def submit(self, write: Callable[[], None]) -> None:
        """Do ``write`` after all before it. Raises what one of those has raised."""
        while self._writes and (len(self._writes) >= self.behind or self._writes[0].done()):
            self._writes.popleft().result()
        self._writes.append(self._thread.submit(write))

    def settle(self) -> None:
        """Wait until all is written. Raises what a write has raised; those after it are done all the same."""
        while self._writes:
            self._writes.popleft().result()

    def __enter__(self) -> BackgroundWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._thread.shutdown(wait=True)
        if kind is None:  # else its own error is what ended the run
            self.settle()
