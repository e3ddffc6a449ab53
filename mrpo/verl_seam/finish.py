"""How the engine says that a response ended, on its way to whoever must know whether it was truncated.

vLLM's finish reason is ``stop`` or ``length``; verl's server makes both ``completed``, and its agent loops drop even
that. Here the server says which (``engine_server``), the client notes each answer beside the rollout that asked for it
(``engine_client``), and an output is matched with the answer that it ends with, whatever the agent loop has made of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextvars import ContextVar
from typing import Any

from verl.workers.rollout.replica import TokenOutput

from mrpo.verl_seam.text import is_truncated

LENGTH = "length"
"""vLLM's finish reason of a response that reached its limit before its end."""

ANSWERS: ContextVar[list[asyncio.Future[TokenOutput]] | None] = ContextVar("ANSWERS", default=None)
"""What engines were asked for by the rollout that this code runs in, eldest first."""

REASONS: ContextVar[list[str | None] | None] = ContextVar("REASONS", default=None)
"""In an engine's server: the finish reasons of the request that this code runs in."""


def noting_reasons(generate: Callable[..., AsyncIterator[Any]]) -> Callable[..., AsyncIterator[Any]]:
    """vLLM's ``generate``, which also notes each output's finish reason in ``REASONS``."""

    async def noting(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        async for output in generate(*args, **kwargs):
            reasons = REASONS.get()
            if reasons is not None and output.outputs:
                reasons.append(output.outputs[0].finish_reason)
            yield output

    return noting


def ended_by(response: Sequence[int], mask: Sequence[int], answers: Iterable[asyncio.Future[Any]]) -> str | None:
    """The engine's word on how ``response`` ended; None: it doesn't end with an answer of an engine's that says.

    Args:
        response: token ids, also of what tools wrote.
        mask: 1 for each token that the model wrote.
        answers: to all requests of the rollout.
    """
    for answer in reversed(list(answers)):
        if not answer.done() or answer.cancelled() or answer.exception() is not None:
            continue
        ids, reason = list(answer.result().token_ids), answer.result().stop_reason
        if ids and mask[-1:] and mask[-1] and list(response[-len(ids) :]) == ids:
            return reason if reason in (LENGTH, "stop") else None
    return None


def was_truncated(
    response: Sequence[int],
    mask: Sequence[int],
    answers: Iterable[asyncio.Future[Any]],
    room: int,
    stops: Collection[int],
) -> bool:
    """Whether a response reached its limit before its end: by the engine's word, or where there is none, as where a
    tool wrote up to the limit, by the tokens (``text.is_truncated``, whose arguments the others are)."""
    reason = ended_by(response, mask, answers)
    return is_truncated(response, mask, room, stops) if reason is None else reason == LENGTH
