"""Rollouts' requests to engines with actors of their own: many in one message, and again where an engine has died."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any

from omegaconf import DictConfig, OmegaConf
from ray.exceptions import RayActorError
from verl.workers.rollout.llm_server import FullyAsyncLLMServerClient, LLMServerClient
from verl.workers.rollout.replica import TokenOutput

from mrpo.verl_seam.batched import Batcher, Call, ask
from mrpo.verl_seam.finish import ANSWERS

NO_ENGINE = "No available servers in load balancer"
PROMPT: ContextVar[str | None] = ContextVar("PROMPT", default=None)
"""The prompt whose rollouts are being sampled."""


def is_dead_engine(error: BaseException) -> bool:
    """Whether a request failed because its engine, or the actor around it, is gone."""
    return isinstance(error, RayActorError) or "EngineDeadError" in f"{type(error).__name__} {error}"


def acquire_all(balancer: Any, requests: Sequence[tuple[str, dict[str, Any]]]) -> list[tuple[str, Any]]:
    """Runs in the routing's actor: the engine of each request, by its id and what this routing goes by."""
    return [balancer.acquire_server(request_id=request_id, **fields) for request_id, fields in requests]


def release_all(balancer: Any, requests: Sequence[dict[str, Any]]) -> None:
    """Runs in the routing's actor: these requests have ended."""
    for request in requests:
        balancer.release_server(**request)


def _plain(config: Any) -> Any:
    """The same settings as attributes. verl reads some for each request, for which OmegaConf takes its time."""
    if isinstance(config, DictConfig):
        config = OmegaConf.to_container(config, resolve=True)
    if isinstance(config, dict):
        return SimpleNamespace(**{str(name): _plain(value) for name, value in config.items()})
    return config


class BatchedServer:
    """Stands in for the handle of an ``engine_server``: requests that are made at the same time go by one call."""

    def __init__(self, handle: Any):
        self.handle = handle
        self.generate = self
        self.requests: Batcher[dict[str, Any], TokenOutput] = Batcher(self._send)

    @classmethod
    def of(cls, handle: Any) -> Any:
        """As it is, where the handle is of a server that takes no batches: another backend's."""
        return cls(handle) if hasattr(handle, "generate_batch") else handle

    def remote(self, **request: Any) -> Any:
        answer = self.requests(request)
        if (answers := ANSWERS.get()) is not None:
            answers.append(answer)
        return answer

    async def _send(self, calls: Sequence[Call[dict[str, Any], TokenOutput]]) -> None:
        await ask(self.handle.generate_batch, calls)


class BatchedClient(LLMServerClient):
    """verl's, whose requests that are made at the same time go to the routing, and to an engine, by one call.

    Owner of ``servers``, by an engine's id: the handle that the routing gave, and what is asked in its place.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.config: Any = _plain(self.config)
        self.servers: dict[str, tuple[Any, Any]] = {}
        self.acquire: Batcher[tuple[str, dict[str, Any]], tuple[str, Any]] = Batcher(self._acquire_all, in_turn=True)
        self.release: Batcher[dict[str, Any], None] = Batcher(self._release_all)

    async def _acquire_server(self, request_id: str, **extra: Any) -> tuple[str, Any]:
        if self._lb_require_acquire_fields is None:  # verl asks the routing what it goes by, once
            server_id, handle = await super()._acquire_server(request_id, **extra)
        else:
            fields = {name: extra[name] for name in self._lb_require_acquire_fields if name in extra}
            server_id, handle = await self.acquire((request_id, fields))
        known = self.servers.get(server_id)
        if known is None or known[0] != handle:
            known = self.servers[server_id] = handle, BatchedServer.of(handle)
        return server_id, known[1]

    async def _acquire_all(self, calls: Sequence[Call[tuple[str, dict[str, Any]], tuple[str, Any]]]) -> None:
        routes = await self._load_balancer.__ray_call__.remote(acquire_all, [call.item for call in calls])
        for call, route in zip(calls, routes, strict=True):
            call.settle(route)

    def _release_server(self, server_id: str, request_id: str | None = None) -> None:
        known = {"request_id": request_id}
        fields = {name: known[name] for name in self._lb_require_release_fields or () if name in known}
        self.release({"server_id": server_id, **fields})

    async def _release_all(self, calls: Sequence[Call[dict[str, Any], None]]) -> None:
        await self._load_balancer.__ray_call__.remote(release_all, [call.item for call in calls])
        for call in calls:
            call.settle(None)


class SeededParts(LLMServerClient):
    """What ``FullyAsyncLLMServerClient`` goes on with where new weights have interrupted a response. It asks with the
    seed of the first part, whose random numbers would all come again; here each part has a seed of its own.

    Owner of ``lengths``: the tokens that a request began with.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.lengths: dict[str, int] = {}

    async def generate(
        self, request_id: str, *, prompt_ids: list[int], sampling_params: dict[str, Any], **more: Any
    ) -> TokenOutput:
        sampled = len(prompt_ids) - self.lengths.setdefault(request_id, len(prompt_ids))
        if sampled > 0 and "seed" in sampling_params:
            sampling_params = {**sampling_params, "seed": (sampling_params["seed"] + sampled) % 2**31}
        return await super().generate(request_id, prompt_ids=prompt_ids, sampling_params=sampling_params, **more)


class PersistentClient(BatchedClient, FullyAsyncLLMServerClient, SeededParts):
    """Asks one engine for all rollouts of a prompt, which it then has in its prefix cache, and the routing once for
    them. Takes an engine that died out of the routing and asks another; waits while there is none.

    Owner of ``routes``, the engine of each prompt under way, and ``serving``, that of each request.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.routes: dict[str, asyncio.Task[tuple[str, Any]]] = {}
        self.serving: dict[str, str] = {}

    @asynccontextmanager
    async def prompt(self, uid: str) -> AsyncIterator[None]:
        """Inside, requests are for rollouts of this prompt."""
        token = PROMPT.set(uid)
        try:
            yield
        finally:
            PROMPT.reset(token)
            route = self.routes.pop(uid, None)
            if route is not None and route.done() and route.exception() is None:
                self._release_server(route.result()[0], uid)

    async def _acquire_server(self, request_id: str, **extra: Any) -> tuple[str, Any]:
        uid = PROMPT.get() or request_id
        if uid not in self.routes:
            self.routes[uid] = asyncio.ensure_future(self._route(uid, extra))
        server_id, server = await asyncio.shield(self.routes[uid])
        self.serving[request_id] = server_id
        return server_id, server

    async def _route(self, uid: str, extra: dict[str, Any]) -> tuple[str, Any]:
        while True:
            try:
                return await super()._acquire_server(uid, **extra)
            except RuntimeError as error:
                if NO_ENGINE not in str(error):
                    raise
                await asyncio.sleep(1)

    def _release_server(self, server_id: str, request_id: str | None = None) -> None:
        if PROMPT.get() is None:  # else when the prompt is over
            super()._release_server(server_id, request_id)

    async def generate(self, request_id: str, **request: Any) -> Any:
        uid = PROMPT.get() or request_id
        try:
            while True:
                self.lengths.pop(request_id, None)  # verl begins again at the prompt
                try:
                    return await super().generate(request_id, **request)
                except Exception as error:
                    if not is_dead_engine(error):
                        raise
                    await self._leave(uid, self.serving[request_id])
        finally:
            self.lengths.pop(request_id, None)
            self.serving.pop(request_id, None)
            if PROMPT.get() is None:
                self.routes.pop(uid, None)

    async def _leave(self, uid: str, dead: str) -> None:
        """Route no more to this engine; another rollout of the prompt may have found it dead, and have a new one."""
        route = self.routes.get(uid)
        if route is not None and route.done() and route.result()[0] == dead:
            del self.routes[uid]
        await self._load_balancer.remove_servers.remote([dead])
