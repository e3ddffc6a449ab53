"""The background writer: order, its bound, and that no failed write goes unnoticed."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from mrpo.record.writer import BackgroundWriter

pytestmark = pytest.mark.unit


def full() -> None:
    raise OSError(28, "No space left on device")


def test_writes_are_done_in_order_and_all_of_them_before_it_ends() -> None:
    written: list[int] = []
    with BackgroundWriter() as writer:
        for number in range(50):
            writer.submit(lambda number=number: written.append(number))  # type: ignore[misc]
    assert written == list(range(50))


def test_no_more_than_so_many_are_under_way() -> None:
    go, done = threading.Event(), threading.Event()
    with BackgroundWriter(behind=2) as writer:

        def first() -> None:
            go.wait(10)

        writer.submit(first)
        writer.submit(lambda: None)

        def third() -> None:
            writer.submit(lambda: None)
            done.set()

        waiting = threading.Thread(target=third)
        waiting.start()
        assert not done.wait(0.2)
        go.set()
        assert done.wait(10)
        waiting.join()


def after_a_failed_write(then: Callable[[BackgroundWriter], object]) -> None:
    with BackgroundWriter(behind=3) as writer:
        writer.submit(full)
        then(writer)


def next_write(writer: BackgroundWriter) -> None:
    while True:
        writer.submit(lambda: None)


@pytest.mark.parametrize("then", [BackgroundWriter.settle, next_write, lambda writer: None])
def test_a_write_that_fails_is_raised_by_the_next_call_or_at_the_end(then: Callable[[BackgroundWriter], None]) -> None:
    with pytest.raises(OSError, match="No space left"):
        after_a_failed_write(then)


def test_the_error_that_ends_the_run_isnt_displaced() -> None:
    def own_error(writer: BackgroundWriter) -> None:
        raise ValueError("its own")

    with pytest.raises(ValueError, match="its own"):
        after_a_failed_write(own_error)
