"""Whether a response was truncated is the engine's word, also where tokens alone would say otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from verl.workers.rollout.replica import TokenOutput
from vllm.outputs import CompletionOutput

from mrpo.verl_seam.finish import REASONS, noting_reasons, was_truncated

pytestmark = pytest.mark.unit
END, ROOM = 0, 4


def asked(*answers: tuple[list[int], str | None] | Exception) -> list[asyncio.Future[TokenOutput]]:
    loop = asyncio.new_event_loop()
    futures = []
    for answer in answers:
        future: asyncio.Future[TokenOutput] = loop.create_future()
        if isinstance(answer, Exception):
            future.set_exception(answer)
            future.exception()
        else:
            future.set_result(TokenOutput(token_ids=answer[0], stop_reason=answer[1]))
        futures.append(future)
    loop.close()
    return futures


@pytest.mark.parametrize(
    ("response", "mask", "answers", "truncated"),
    [
        (
            [7, 7, 7, 8],
            [1, 1, 1, 1],
            [([7, 7, 7, 8], "stop")],
            False,
        ),  # a stop string of the last token there was room for
        ([7, 7, 7, END], [1, 1, 1, 1], [([7, 7, 7, END], "length")], True),  # ignore_eos
        ([7, 8], [1, 1], [([7, 8], "length")], True),  # a limit of the turn's own
        ([7, 7, 7, 8], [1, 1, 1, 1], [([7, 7], "aborted"), ([7, 8], "length")], True),  # in pieces
        ([7, 7, 7, 8], [1, 1, 1, 1], [RuntimeError("dead engine"), ([7, 7, 7, 8], "stop")], False),
        ([7, 5, 5, 5], [1, 0, 0, 0], [([7], "stop")], True),  # a tool wrote up to the limit
        ([7, 5, 8, 9], [1, 0, 1, 1], [([7], "length"), ([8, 9], "stop")], False),  # of two turns the last
        ([7, 7, 7, 8], [1, 1, 1, 1], [([7, 7, 7, 8, 9], "stop")], True),  # the agent has cut the answer
        ([7, 7, 7, 8], [1, 1, 1, 1], [([7, 7, 7, 8], "completed")], True),  # an engine that doesn't say
        ([7, 7, 7, END], [1, 1, 1, 1], [], False),
    ],
)
def test_the_answer_that_an_output_ends_with_says_how_it_ended(
    response: list[int], mask: list[int], answers: list[Any], truncated: bool
) -> None:
    assert was_truncated(response, mask, asked(*answers), ROOM, {END}) is truncated


def test_a_server_notes_the_finish_reasons_of_its_own_request() -> None:
    async def generate(reason: str) -> AsyncIterator[Any]:
        await asyncio.sleep(0)
        yield SimpleNamespace(outputs=[CompletionOutput(0, "", [1], None, None, finish_reason=reason)])

    async def request(reason: str) -> list[str | None]:
        reasons: list[str | None] = []
        REASONS.set(reasons)
        async for _ in noting_reasons(generate)(reason):
            pass
        return reasons

    async def both() -> list[list[str | None]]:
        return list(await asyncio.gather(request("stop"), request("length")))

    assert asyncio.run(both()) == [["stop"], ["length"]]
