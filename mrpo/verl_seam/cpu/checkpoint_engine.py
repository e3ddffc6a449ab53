"""Checkpoint engine ``gloo``: trainer rank 0 broadcasts the weights to every rollout worker over CPU sockets.

verl ships NCCL, NIXL and the like, none of which runs on a CPU. Named in ``rollout.checkpoint_engine`` as
``backend=gloo, custom_backend_module=mrpo.verl_seam.cpu.checkpoint_engine``. The process group is kept between updates
and rebuilt only when the set of members changes; it works across nodes.

A bucket on the wire is: its header's length, its header (names, shapes, dtypes, last?), its bytes.
"""

from __future__ import annotations

import datetime
import json
import math
import time
from collections.abc import AsyncGenerator, Generator
from typing import Any

import ray
import torch
import torch.distributed as dist
from verl.checkpoint_engine.base import CheckpointEngine, CheckpointEngineRegistry
from verl.workers.rollout.utils import ensure_async_iterator

from mrpo.verl_seam.patches.loopback_stores import loopback_store

Weights = Generator[tuple[str, torch.Tensor], None, None]


@CheckpointEngineRegistry.register("gloo")
class GlooCheckpointEngine(CheckpointEngine):
    """Member 0 is trainer rank 0, the only trainer rank that sends; the others have rank -1 and only gather."""

    def __init__(self, bucket_size: int, is_master: bool = False, timeout_seconds: float = 600):
        self.bucket_size = bucket_size
        self.timeout = datetime.timedelta(seconds=timeout_seconds)
        self.rank = -1
        self.members: tuple[Any, ...] | None = None
        self.group: dist.ProcessGroupGloo | None = None
        self.store: dist.TCPStore | None = None
        if is_master:
            self.host = ray.util.get_node_ip_address().strip("[]")
            self.store = loopback_store(self.host, 0, is_master=True, wait_for_workers=False, timeout=self.timeout)

    def prepare(self) -> Any:
        """The master says where its store listens, and every member who it is (its actor's id)."""
        address = (self.host, self.store.port) if self.store else None
        return {"address": address, "actor": ray.get_runtime_context().get_actor_id()}

    @classmethod
    def build_topology(
        cls, actor_wg_world_size: int, rollout_world_size: int, metadata: list[dict]
    ) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
        receivers = [m["actor"] for m in metadata[actor_wg_world_size:]]
        members = (metadata[0]["actor"], *receivers)
        address = metadata[0]["address"]

        def arguments(ranks: list[int]) -> dict[str, list[Any]]:
            return {"rank": ranks, "members": [members] * len(ranks), "address": [address] * len(ranks)}

        return (
            arguments([0] + [-1] * (actor_wg_world_size - 1)),
            arguments(list(range(1, rollout_world_size + 1))),
        )

    def init_process_group(  # type: ignore[override]
        self, rank: int, members: tuple[str, ...], address: tuple[str, int]
    ) -> None:
        self.rank = rank
        if rank < 0 or tuple(members) == self.members:
            return
        store = self.store or dist.TCPStore(*address, is_master=False, timeout=self.timeout)
        prefix = dist.PrefixStore("/".join(members), store)
        self.group = dist.ProcessGroupGloo(prefix, rank, len(members), self.timeout)
        self.members = tuple(members)

    def finalize(self) -> None:
        pass

    def _broadcast(self, tensor: torch.Tensor) -> torch.Tensor:
        assert self.group is not None
        self.group.broadcast(tensor, 0).wait()  # type: ignore[attr-defined]
        return tensor

    def _send_bucket(self, bucket: list[tuple[str, torch.Tensor]], last: bool) -> None:
        header = json.dumps(
            {"tensors": [(n, list(w.shape), str(w.dtype).removeprefix("torch.")) for n, w in bucket], "last": last}
        ).encode()
        self._broadcast(torch.tensor([len(header)]))
        self._broadcast(torch.frombuffer(bytearray(header), dtype=torch.uint8))
        if bucket:
            self._broadcast(torch.cat([w.reshape(-1).view(torch.uint8) for _, w in bucket]))

    @torch.no_grad()
    async def send_weights(self, weights: Weights, global_steps: int | None = None) -> dict[str, float]:
        """Every trainer rank walks ``weights``, since each item is an all-gather; rank 0 sends them in buckets."""
        start, sent, size = time.perf_counter(), 0, 0
        bucket: list[tuple[str, torch.Tensor]] = []
        async for name, weight in ensure_async_iterator(weights):
            if self.rank < 0:
                continue
            weight = weight.detach().cpu().contiguous()
            if bucket and size + weight.nbytes > self.bucket_size:
                self._send_bucket(bucket, last=False)
                bucket, size = [], 0
            bucket.append((name, weight))
            size += weight.nbytes
            sent += weight.nbytes
        if self.rank < 0:
            return {}
        self._send_bucket(bucket, last=True)
        return {"sync/bytes": float(sent), "sync/seconds": time.perf_counter() - start}

    @torch.no_grad()
    async def receive_weights(  # type: ignore[override]
        self, global_steps: int | None = None
    ) -> AsyncGenerator[tuple[str, torch.Tensor], None]:
        last = False
        while not last:
            header_size = int(self._broadcast(torch.empty(1, dtype=torch.int64)))
            header = json.loads(self._broadcast(torch.empty(header_size, dtype=torch.uint8)).numpy().tobytes())
            last = header["last"]
            tensors = [(name, shape, getattr(torch, dtype)) for name, shape, dtype in header["tensors"]]
            sizes = [math.prod(shape) * dtype.itemsize for _, shape, dtype in tensors]
            if not tensors:
                continue
            content = self._broadcast(torch.empty(sum(sizes), dtype=torch.uint8))
            for (name, shape, dtype), piece in zip(tensors, content.split(sizes), strict=True):
                yield name, piece.clone().view(dtype).view(shape)  # clone: a piece may lie unaligned in its bucket
