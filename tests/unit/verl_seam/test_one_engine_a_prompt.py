"""Rollouts of a prompt share an engine and one route to it, also when engines die. The routing and the engines are
fakes that inject the deaths; the client is the one of a run."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import RayActorError
from verl.workers.rollout.replica import TokenOutput

from mrpo.verl_seam.engine_client import NO_ENGINE, PersistentClient

pytestmark = pytest.mark.unit

CONFIG = SimpleNamespace(actor_rollout_ref=SimpleNamespace(rollout=SimpleNamespace(name="vllm", response_length=4)))


class Remote:
    """A method of an actor."""

    def __init__(self, method: Any):
        self.method = method

    async def remote(self, *given: Any, **named: Any) -> Any:
        await asyncio.sleep(0)
        return self.method(*given, **named)


class FaultyRouting:
    """Routes to the engine with the fewest requests; engines named in ``dead`` answer nothing."""

    def __init__(self, engines: list[str], dead: tuple[str, ...] = ()):
        self.load = dict.fromkeys(engines, 0)
        self.dead, self.routed, self.served = dead, list[str](), list[str]()
        self.require_acquire_fields = self.require_release_fields = Remote(lambda: [])
        self.acquire_server, self.remove_servers = Remote(self._acquire), Remote(self._remove)
        inside = SimpleNamespace(acquire_server=self._acquire, release_server=self._release)
        self.calls = 0
        self.__ray_call__ = Remote(lambda function, *given: self._inside(function, inside, *given))

    def _inside(self, function: Any, *given: Any) -> Any:
        self.calls += 1
        return function(*given)

    def _acquire(self, request_id: str) -> tuple[str, Any]:
        if not self.load:
            raise RuntimeError(NO_ENGINE)
        engine = min(self.load, key=lambda name: (self.load[name], name))
        self.load[engine] += 1
        self.routed.append(request_id)
        return engine, SimpleNamespace(generate=Remote(lambda **_: self._generate(engine)))

    def _release(self, server_id: str, **_: Any) -> None:
        if server_id in self.load:
            self.load[server_id] -= 1

    def _remove(self, engines: list[str]) -> None:
        for engine in engines:
            self.load.pop(engine, None)

    def _generate(self, engine: str) -> TokenOutput:
        if engine in self.dead:
            raise RayActorError
        self.served.append(engine)
        return TokenOutput(token_ids=[1], log_probs=[0.0], stop_reason="completed", num_preempted=0)


async def sample(routing: FaultyRouting, uid: str, n: int) -> PersistentClient:
    client = PersistentClient(CONFIG, load_balancer_handle=routing)
    async with client.prompt(uid):
        await asyncio.gather(
            *(client.generate(f"{uid}/{i}", prompt_ids=[1], sampling_params={"logprobs": True}) for i in range(n))
        )
    await asyncio.sleep(0.01)  # the release is told to the routing, and not waited for
    return client


def test_a_prompts_rollouts_share_an_engine_and_its_route() -> None:
    routing = FaultyRouting(["a", "b"])
    client = asyncio.run(sample(routing, "p", 8))
    assert routing.served == ["a"] * 8
    assert routing.routed == ["p"]
    assert routing.load == {"a": 0, "b": 0}
    assert not client.routes
    assert not client.serving


def test_when_the_engine_dies_all_of_them_are_asked_of_the_next_and_no_other_is_given_up() -> None:
    routing = FaultyRouting(["a", "b", "c"], dead=("a",))
    asyncio.run(sample(routing, "p", 8))
    assert routing.served == ["b"] * 8
    assert routing.load == {"b": 0, "c": 0}


def test_prompts_go_to_different_engines() -> None:
    routing = FaultyRouting(["a", "b"])

    async def two() -> None:
        await asyncio.gather(sample(routing, "p", 4), sample(routing, "q", 4))

    asyncio.run(two())
    assert sorted(routing.served) == ["a"] * 4 + ["b"] * 4


def test_a_request_of_no_prompt_is_routed_by_itself() -> None:
    routing = FaultyRouting(["a", "b"], dead=("a",))

    async def one() -> PersistentClient:
        client = PersistentClient(CONFIG, load_balancer_handle=routing)
        await client.generate("r", prompt_ids=[1], sampling_params={"logprobs": True})
        await asyncio.sleep(0.01)
        return client

    client = asyncio.run(one())
    assert routing.served == ["b"]
    assert routing.load == {"b": 0}
    assert not client.routes
    assert not client.serving


def test_prompts_that_begin_together_ask_the_routing_by_one_call_and_each_gets_the_freest_engine() -> None:
    routing = FaultyRouting(["a", "b"])
    client = PersistentClient(CONFIG, load_balancer_handle=routing)

    async def prompt(uid: str) -> None:
        async with client.prompt(uid):
            await client.generate(f"{uid}/0", prompt_ids=[1], sampling_params={"logprobs": True})

    async def all_of(*uids: str) -> None:
        await asyncio.gather(*map(prompt, uids))
        await asyncio.sleep(0.01)

    asyncio.run(all_of("first"))  # what the routing goes by is asked for once
    routing.calls = 0
    asyncio.run(all_of("p", "q", "r", "s"))
    assert routing.calls == 2  # to acquire, and to release
    assert sorted(routing.served) == ["a"] * 3 + ["b"] * 2
    assert routing.load == {"a": 0, "b": 0}


def test_a_response_that_new_weights_interrupt_goes_on_with_random_numbers_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its versions are those that have sampled tokens of it, and its log-probabilities one a token."""
    sleep = asyncio.sleep
    monkeypatch.setattr(asyncio, "sleep", lambda seconds: sleep(0))  # verl waits for a second
    routing, asked = FaultyRouting(["a"]), list[tuple[int, int, int]]()
    parts = [([], None, "aborted"), ([7, 8], 3, "aborted"), ([], None, "aborted"), ([9], 5, "completed")]

    def generate(prompt_ids: list[int], sampling_params: dict[str, Any], **_: Any) -> TokenOutput:
        asked.append((len(prompt_ids), sampling_params["seed"], sampling_params["max_tokens"]))
        ids, version, reason = parts[len(asked) - 1]
        log_probs = [-float(token) for token in ids]
        return TokenOutput(
            token_ids=ids, log_probs=log_probs, stop_reason=reason, extra_fields={"global_steps": version}
        )

    routing.acquire_server = Remote(lambda request_id: ("a", SimpleNamespace(generate=Remote(generate))))
    client = PersistentClient(CONFIG, load_balancer_handle=routing)

    async def one(seed: int) -> TokenOutput:
        return await client.generate("r", prompt_ids=[1, 2], sampling_params={"logprobs": True, "seed": seed})

    output = asyncio.run(one(2**31 - 1))
    assert (output.token_ids, output.log_probs, output.stop_reason) == ([7, 8, 9], [-7.0, -8.0, -9.0], "completed")
    assert {name: output.extra_fields[name] for name in ("min_global_steps", "max_global_steps")} == {
        "min_global_steps": 3,
        "max_global_steps": 5,
    }
    assert asked == [(2, 2**31 - 1, 4), (2, 2**31 - 1, 4), (4, 1, 2), (4, 1, 2)]
    assert not client.lengths
