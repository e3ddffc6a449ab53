"""Calls that are made at about the same time, sent on as one: what a message between processes costs, it costs once.

A ``Batcher`` takes calls one by one and sends them on in lists. An actor answers such a list by a generator
(``as_they_end``): whatever is ready together comes back together, and nothing waits for what takes longer.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Failed(NamedTuple):
    """In place of an answer: the error's type, text and traceback, which any process can read."""

    error: str


class Call(Generic[Item, Answer]):
    """One of a list: what is asked, and the future of its answer."""

    def __init__(self, item: Item):
        self.item = item
        self.answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    def settle(self, answer: Answer | Failed) -> None:
        if isinstance(answer, Failed):
            self.fail(RuntimeError(answer.error))
        elif not self.answer.done():
            self.answer.set_result(answer)

    def fail(self, error: BaseException) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


class Batcher(Generic[Item, Answer]):
    """Sends on what is asked within one turn of the event loop, as one list.

    >>> async def both():
    ...     async def send(calls):
    ...         print([call.item for call in calls])
    ...         for call in calls:
    ...             call.settle(-call.item)
    ...     negative = Batcher(send)
    ...     return await asyncio.gather(negative(1), negative(2))
    >>> asyncio.run(both())
    [1, 2]
    [-1, -2]

    Args:
        send: settles each call that it is given. If it raises, those that it hasn't settled fail by its error: these,
            and none of another list.
        in_turn: send no list before the one before has ended, so that lists grow with the load. What is asked of an
            idle one is sent at once either way.
    """

    def __init__(self, send: Callable[[Sequence[Call[Item, Answer]]], Awaitable[None]], in_turn: bool = False):
        self.send, self.in_turn = send, in_turn
        self.waiting: list[Call[Item, Answer]] = []
        self.sending: set[asyncio.Task[None]] = set()

    def __call__(self, item: Item) -> asyncio.Future[Answer]:
        call = Call[Item, Answer](item)
        self.waiting.append(call)
        if len(self.waiting) == 1:
            asyncio.get_running_loop().call_soon(self._flush)
        return call.answer

    def _flush(self) -> None:
        if not self.waiting or (self.in_turn and self.sending):
            return
        calls, self.waiting = self.waiting, []
        task = asyncio.ensure_future(self._send(calls))
        self.sending.add(task)
        task.add_done_callback(self._sent)

    def _sent(self, task: asyncio.Task[None]) -> None:
        self.sending.discard(task)
        if self.in_turn:
            self._flush()

    async def _send(self, calls: Sequence[Call[Item, Answer]]) -> None:
        error: BaseException = RuntimeError("no answer came")
        try:
            await self.send(calls)
        except BaseException as raised:
            error = raised
        for call in calls:
            call.fail(error)


async def as_they_end(answers: Sequence[Awaitable[Any]], linger: float = 0.0) -> AsyncIterator[list[tuple[int, Any]]]:
    """Lists of answers with their numbers, as soon as there are any: those of one turn of the event loop, and of
    ``linger`` seconds after it. An error is its answer (``Failed``)."""
    number_of = {asyncio.ensure_future(answer): number for number, answer in enumerate(answers)}
    try:
        while number_of:
            ended, others = await asyncio.wait(number_of, return_when=asyncio.FIRST_COMPLETED)
            if linger and others:
                await asyncio.wait(others, timeout=linger)  # not once all have ended
                ended = {task for task in number_of if task.done()}
            yield [(number_of.pop(task), _outcome(task)) for task in ended]
    finally:
        for task in number_of:  # nobody asks for them any more
            task.cancel()


def _outcome(task: asyncio.Future[Any]) -> Any:
    error = task.exception()
    return task.result() if error is None else Failed("".join(traceback.format_exception(error)))


async def ask(method: Any, calls: Sequence[Call[Any, Any]], **options: Any) -> None:
    """Settle ``calls`` by an actor's generator method, which yields what ``as_they_end`` does of their items.

    Raises:
        RayActorError: the actor has died; calls that it had answered are settled.
    """
    lists = method.options(num_returns="streaming", **options).remote([call.item for call in calls])
    async for reference in lists:
        for number, answer in await reference:
            calls[number].settle(answer)
