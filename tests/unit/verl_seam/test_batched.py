"""What is asked together goes in one list, is answered as it is ready, and fails with its own list alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrpo.verl_seam.batched import Batcher, Call, Failed, as_they_end, ask

pytestmark = pytest.mark.unit


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


class Recorder:
    """Answers with the square; keeps the lists that came. ``fails``: raises for a list with this item. ``turns``: of
    the event loop that an answer takes."""

    def __init__(self, fails: int | None = None, turns: int = 0):
        self.fails, self.turns, self.lists = fails, turns, list[list[int]]()

    async def send(self, calls: Sequence[Call[int, int]]) -> None:
        items = [call.item for call in calls]
        self.lists.append(items)
        await turns(self.turns)
        if self.fails in items:
            raise ConnectionError(f"list {items}")
        for call in calls:
            call.settle(call.item**2)


def test_what_is_asked_in_one_turn_of_the_loop_goes_as_one_list() -> None:
    recorder = Recorder()

    async def main() -> list[int]:
        square = Batcher(recorder.send)
        return [*await asyncio.gather(square(1), square(2), square(3)), await square(4)]

    assert asyncio.run(main()) == [1, 4, 9, 16]
    assert recorder.lists == [[1, 2, 3], [4]]


def test_in_turn_a_list_waits_for_the_one_before_and_takes_what_came_meanwhile() -> None:
    recorder = Recorder(turns=20)

    async def main() -> None:
        square = Batcher(recorder.send, in_turn=True)
        first = square(1)
        await turns(5)
        later = [square(2)]
        await turns(5)
        later.append(square(3))
        await asyncio.gather(first, *later)

    asyncio.run(main())
    assert recorder.lists == [[1], [2, 3]]


@pytest.mark.parametrize("in_turn", [False, True])
def test_a_list_that_fails_fails_its_own_calls_and_none_of_the_next(in_turn: bool) -> None:
    recorder = Recorder(fails=2, turns=10)

    async def main() -> list[Any]:
        square = Batcher(recorder.send, in_turn=in_turn)
        first = [square(1), square(2)]
        await turns(3)
        return await asyncio.gather(*first, square(3), return_exceptions=True)

    *failed, third = asyncio.run(main())
    assert recorder.lists == [[1, 2], [3]]
    assert [str(error) for error in failed] == ["list [1, 2]"] * 2
    assert third == 9


def test_a_call_that_nobody_answers_fails_rather_than_waits_for_ever() -> None:
    async def forgetful(calls: Sequence[Call[int, int]]) -> None:
        calls[0].settle(7)

    async def main() -> list[Any]:
        ask = Batcher(forgetful)
        return list(await asyncio.gather(ask(1), ask(2), return_exceptions=True))

    first, second = asyncio.run(asyncio.wait_for(main(), 5))
    assert first == 7
    assert "no answer came" in str(second)


@given(st.lists(st.integers(0, 3), max_size=12))
def test_every_answer_comes_once_under_its_number(delays: list[int]) -> None:
    async def answer(number: int, delay: int) -> int:
        await turns(delay)
        if delay == 3:
            raise ValueError(f"number {number}")
        return number * 10

    async def main() -> list[tuple[int, Any]]:
        return [pair async for some in as_they_end([answer(*both) for both in enumerate(delays)]) for pair in some]

    answers = dict(asyncio.run(main()))
    assert sorted(answers) == list(range(len(delays)))
    for number, delay in enumerate(delays):
        if delay == 3:
            assert isinstance(answers[number], Failed)
            assert f"ValueError: number {number}" in answers[number].error
        else:
            assert answers[number] == number * 10


def test_a_slow_answer_keeps_none_of_the_others() -> None:
    async def main() -> list[list[int]]:
        slow = asyncio.get_running_loop().create_future()
        seen = []
        async for some in as_they_end([slow, asyncio.sleep(0), asyncio.sleep(0)]):
            seen.append(sorted(number for number, _ in some))
            if not slow.done():
                slow.set_result(None)
        return seen

    assert asyncio.run(main()) == [[1, 2], [0]]


def test_who_lingers_waits_no_longer_than_for_the_last() -> None:
    async def main() -> list[list[int]]:
        answers = [asyncio.sleep(0), asyncio.sleep(0.01)]
        return [sorted(number for number, _ in some) async for some in as_they_end(answers, linger=60)]

    assert asyncio.run(asyncio.wait_for(main(), 20)) == [[0, 1]]


class FaultyActor:
    """Answers the first two of a list and then dies, as far as who asks it can tell."""

    class method:
        @staticmethod
        def options(**_: Any) -> Any:
            return FaultyActor.method

        @staticmethod
        async def remote(items: Sequence[int]) -> AsyncIterator[Any]:
            answers: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            answers.set_result([(1, items[1] ** 2), (0, Failed("ValueError: no"))])
            yield answers
            raise ConnectionResetError("the actor died")


def test_what_an_actor_has_answered_before_it_died_is_kept() -> None:
    async def main() -> list[Any]:
        calls = [Call[int, int](item) for item in (1, 2, 3)]
        with pytest.raises(ConnectionResetError):
            await ask(FaultyActor.method, calls)
        assert not calls[2].answer.done()
        return list(await asyncio.gather(calls[0].answer, calls[1].answer, return_exceptions=True))

    first, second = asyncio.run(main())
    assert "ValueError: no" in str(first)
    assert second == 4
