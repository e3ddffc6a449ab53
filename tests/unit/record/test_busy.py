"""Who was at work when: told in intervals, drawn in shares."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrpo.record.busy import GAP, MAX_INTERVALS, BusyTimes, busy_shares

pytestmark = pytest.mark.unit


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_what_is_under_way_counts_until_now_and_goes_on(clock: Clock) -> None:
    times = BusyTimes(clock)
    with times.at_work():
        clock.now = 2.0
        assert times.take() == [(2.0, 0.0)]
        clock.now = 3.0
    clock.now = 5.0
    assert times.take() == [(3.0, 2.0)]
    assert times.take() == []


def test_work_that_raises_has_ended(clock: Clock) -> None:
    times = BusyTimes(clock)

    def work() -> None:
        with times.at_work():
            clock.now = 1.0
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    clock.now = 4.0
    assert times.take() == [(4.0, 3.0)]


def test_a_gap_as_short_as_a_message_is_none_and_memory_is_bounded(clock: Clock) -> None:
    times = BusyTimes(clock)
    for i in range(2 * (MAX_INTERVALS + 10)):
        with times.at_work():
            clock.now += 1.0
        clock.now += GAP / 2 if i % 2 == 0 else 1.0
    assert len(times.intervals) == MAX_INTERVALS
    assert times.intervals[0][1] - times.intervals[0][0] == pytest.approx(2 + GAP / 2)


intervals = st.lists(st.tuples(st.floats(0, 20), st.floats(0, 20)).map(lambda pair: (max(pair), min(pair))), max_size=4)


@given(st.lists(intervals, min_size=1, max_size=3), st.floats(0.5, 10), st.integers(1, 9))
def test_shares_add_up_to_the_time_at_work_within_the_step(
    workers: list[list[tuple[float, float]]], seconds: float, parts: int
) -> None:
    shares = busy_shares(workers, seconds, parts)
    at_work = sum(min(began, seconds) - min(ended, seconds) for one in workers for began, ended in one)
    assert len(shares) == parts
    assert sum(shares) * seconds / parts == pytest.approx(at_work / len(workers), abs=1e-6)
    assert min(shares) >= 0


def test_nobody_to_ask_is_no_share() -> None:
    assert busy_shares([], 3.0) == []
    assert busy_shares([[(1.0, 0.0)]], 0.0) == []
