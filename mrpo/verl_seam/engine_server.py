"""verl's vLLM server, asked for many rollouts by one call of its actor, each of which wakes it once: at its end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import ray
from verl.workers.rollout.replica import RolloutReplicaRegistry, TokenOutput
from verl.workers.rollout.vllm_rollout import vllm_async_server
from verl.workers.rollout.vllm_rollout.vllm_async_server import vLLMReplica
from vllm.sampling_params import RequestOutputKind

from mrpo.verl_seam.batched import as_they_end
from mrpo.verl_seam.finish import REASONS, noting_reasons

LINGER_SECONDS = 0.05
"""How long a response waits for others that end, so that they go in one message: a few tokens' time."""


class vLLMHttpServer(vllm_async_server.vLLMHttpServer):  # processes and logs are named by it
    """verl's, which reads vLLM's outputs after each token only to drop all but the last, and drops how it ended."""

    engine_client: Any = None
    unanswered = 0
    """Requests past the gate of ``abort_all_requests`` without an output yet."""

    @property
    def _admitting(self) -> int:
        """verl counts a request as being admitted up to its first output, which is now its last, and doesn't abort
        before all are admitted: those that vLLM knows already are."""
        known = len(self.engine.output_processor.request_states) if self.unanswered else 0
        return max(0, self.unanswered - known)

    @_admitting.setter
    def _admitting(self, count: int) -> None:
        self.unanswered += count - self._admitting

    @property
    def engine(self) -> Any:
        return self.engine_client

    @engine.setter
    def engine(self, engine: Any) -> None:
        engine.generate = noting_reasons(engine.generate)
        self.engine_client = engine

    async def generate(
        self, prompt_ids: list[int], sampling_params: dict[str, Any], request_id: str, *more: Any, **named: Any
    ) -> TokenOutput:
        sampling_params = {**sampling_params, "output_kind": RequestOutputKind.FINAL_ONLY}
        reasons: list[str | None] = []
        token = REASONS.set(reasons)
        try:
            output = await super().generate(prompt_ids, sampling_params, request_id, *more, **named)
        finally:
            REASONS.reset(token)
        if not output.token_ids:  # new weights came before its first token: these have sampled nothing of it
            output.extra_fields["global_steps"] = None
        if output.stop_reason == "completed" and reasons:  # verl's word for both of the following
            output.stop_reason = reasons[-1]
        return output

    async def generate_batch(self, requests: Sequence[dict[str, Any]]) -> AsyncIterator[list[tuple[int, Any]]]:
        async for outputs in as_they_end([self.generate(**request) for request in requests], LINGER_SECONDS):
            yield outputs


class Replica(vLLMReplica):
    """verl's, with that server."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.server_class = ray.remote(vLLMHttpServer)


def register() -> None:
    """From now on verl makes such engines, in this process."""
    RolloutReplicaRegistry.register("vllm", lambda: Replica)
