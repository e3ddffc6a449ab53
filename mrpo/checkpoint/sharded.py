"""The state of trainer ranks in a folder that any number of ranks can load: model, optimizer, scheduler, randomness.

::

    index.json, __R_0.distcp   tensors (``tensor_files``)
    trainer.npz                number of ranks, param groups, scheduler, seed (``plain``)
    rank_R.npz                 random states of rank R
"""

from __future__ import annotations

import logging
import time
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.metadata import Metadata

from mrpo.checkpoint import tensor_files
from mrpo.checkpoint.manifest import CheckpointError
from mrpo.checkpoint.plain import UNREADABLE, load_state, save_state
from mrpo.checkpoint.random_states import (
    random_states,
    require_random_states,
    restorable,
    seed_of,
    seed_rank,
    set_random_states,
)

logger = logging.getLogger(__name__)
SHARED, RANK = "trainer.npz", "rank_{}.npz"
MODEL = "model."
"""What the names of the model's own tensors begin with; those of the optimizer begin otherwise."""


@dataclass(frozen=True)
class Saving:
    """A save on its way. ``blocked_seconds`` is how long ``save`` kept this rank from training."""

    blocked_seconds: float
    written: futures.Future | None

    def wait(self) -> None:
        """Return when all ranks' parts and the index are written. Raises CheckpointError if a rank couldn't write."""
        if self.written is not None:
            tensor_files.explained(self.written.result, "a state can't be written")


@dataclass(frozen=True)
class Loaded:
    """``rng_restored``: this rank goes on with its saved random states; otherwise it was seeded anew."""

    saved_ranks: int
    resharded: bool
    rng_restored: bool


@dataclass(frozen=True)
class _Found:
    """What a folder holds for this rank: plain values, and room for the tensors that are still to be read."""

    values: dict[str, Any]
    rng: dict[str, Any] | None
    index: Metadata
    tensors: dict[str, torch.Tensor]
    optimizer: dict[str, dict[str, torch.Tensor]]


class ShardedState:
    """What this rank trains. All ranks make one, and call its methods, in the same order.

    The model may be plain, or sharded by FSDP2 (``fully_shard``) in any layout. Tied weights are stored once. The
    optimizer's state must be tensors shaped like their parameter or the same on all ranks, as Adam's are.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
    ):
        self.model, self.optimizer, self.scheduler = model, optimizer, scheduler
        self.rank, self.ranks = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        # not the default group: a background save talks while training does, and CPU objects don't go through NCCL
        self._group = dist.new_group(backend="gloo") if dist.is_initialized() else None
        self._last = Saving(0.0, None)

    def save(self, folder: Path, *, asynchronous: bool = False) -> Saving:
        """Write the state to ``folder``, which all ranks must see and which may not hold a state yet.

        With ``asynchronous`` the state is copied to CPU memory and written in the background while training goes on; it
        isn't there before ``wait`` has returned. A next save or load waits for it. Raises CheckpointError on all ranks
        if one can't write.
        """
        start = time.perf_counter()
        self._begin()
        tensors, names = self._named()
        values: dict[str, Any] = {"ranks": self.ranks, "optimizer": {}}
        pairs = zip(self.optimizer.param_groups, self._members(names), strict=True)
        values["groups"] = [{**group, "params": members} for group, members in pairs]
        values["scheduler"] = None if self.scheduler is None else self.scheduler.state_dict()
        for param, state in self.optimizer.state.items():
            if state:
                name = names[id(param)]
                values["optimizer"][name] = list(state)
                tensors |= {f"optimizer.{name}.{key}": value for key, value in state.items()}
        tensor_files.on_all_ranks(lambda: self._write_values(folder, values), self._group)
        written = tensor_files.write_tensors(tensors, folder, self._group, asynchronous)
        self._last = Saving(time.perf_counter() - start, written)
        return self._last

    def load(self, folder: Path) -> Loaded:
        """Take over the state in ``folder``, bit for bit, whatever the number of ranks that saved it.

        Random states are a rank's own: with another number of ranks, or on another kind of device, each is seeded from
        the saved seed and its rank. Raises CheckpointError on all ranks, with nothing changed, if the state doesn't fit
        or isn't complete. If a part turns out to be damaged while it is read, parameters are undefined.
        """
        self._begin()
        found = tensor_files.on_all_ranks(lambda: self._find(folder), self._group)
        tensor_files.read_tensors(found.tensors, folder, found.index, self._group)
        self.optimizer.load_state_dict({"state": found.optimizer, "param_groups": found.values["groups"]})
        if self.scheduler is not None:
            self.scheduler.load_state_dict(found.values["scheduler"])
        saved_ranks = found.values["ranks"]
        if found.rng is not None:
            set_random_states(found.rng)
        else:
            seed_rank(found.values["seed"], self.rank)
            logger.warning("rank %d of %d: seeded anew, as %d ranks saved", self.rank, self.ranks, saved_ranks)
        return Loaded(saved_ranks, saved_ranks != self.ranks, found.rng is not None)

    def _begin(self) -> None:
        if self._last.written is not None:
            futures.wait([self._last.written])  # how it ended is for whoever holds it to hear
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()  # offloading to pinned memory doesn't wait for its copies

    def _named(self) -> tuple[dict[str, torch.Tensor], dict[int, str]]:
        """The model's tensors, tied ones once, and the name of each by its identity."""
        tensors, names = {}, {}
        for name, value in self.model.state_dict(keep_vars=True).items():
            if id(value) not in names:
                names[id(value)] = name
                tensors[MODEL + name] = value
        return tensors, names

    def _members(self, names: dict[int, str]) -> list[list[str]]:
        """The parameters of each of the optimizer's groups."""
        groups = [[names.get(id(param), "") for param in group["params"]] for group in self.optimizer.param_groups]
        if any("" in members for members in groups):
            raise CheckpointError("the optimizer has a parameter that is not the model's")
        return groups

    def _write_values(self, folder: Path, values: dict[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / tensor_files.INDEX).exists():
            raise CheckpointError(f"{folder} holds a state already")
        rng = random_states()
        save_state(folder / RANK.format(self.rank), rng)
        if self.rank == 0:
            save_state(folder / SHARED, {**values, "seed": seed_of(rng)})

    def _find(self, folder: Path) -> _Found:
        """Everything that can be wrong with it is found before anything is changed."""
        try:
            return self._found(folder)
        except UNREADABLE as error:
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(f"{folder} is not a state: {type(error).__name__}: {error}") from error

    def _found(self, folder: Path) -> _Found:
        values, index = load_state(folder / SHARED), tensor_files.read_index(folder)
        rng = load_state(folder / RANK.format(self.rank)) if values["ranks"] == self.ranks else None
        if rng is not None:
            require_random_states(rng)
        if not isinstance(values["seed"], int):
            raise TypeError(f"a seed of type {type(values['seed']).__name__}")
        tensors, names = self._named()
        params = {names[id(param)]: param for group in self.optimizer.param_groups for param in group["params"]}
        here, there = self._members(names), [group["params"] for group in values["groups"]]
        if here != there:
            differ = sorted({name for group in here for name in group} ^ {name for group in there for name in group})
            raise CheckpointError(f"{folder}: the optimizer's groups differ: {', '.join(differ[:10]) or 'other order'}")
        for now, then in zip(self.optimizer.param_groups, values["groups"], strict=True):
            for key in now.keys() & then.keys() - {"params"}:
                if _kind(now[key]) != _kind(then[key]):
                    raise CheckpointError(f"{folder}: {key} of an optimizer's group is {then[key]!r:.80}")
        if (values["scheduler"] is None) != (self.scheduler is None):
            raise CheckpointError(f"{folder}: there is a scheduler {'here' if self.scheduler else 'there'} only")
        optimizer: dict[str, dict[str, torch.Tensor]] = {}
        for name, keys in values["optimizer"].items():
            full = {key: f"optimizer.{name}.{key}" for key in keys}
            optimizer[name] = {key: tensor_files.room_for(full[key], index, params[name]) for key in keys}
            tensors |= {full[key]: optimizer[name][key] for key in keys}
        tensor_files.require_match(tensors, index, folder)
        return _Found(values, rng if rng and restorable(rng) else None, index, tensors, optimizer)


def _kind(value: Any) -> Any:
    """What a value of an optimizer's group may be replaced by: a number by a number, a tuple by one as long."""
    if isinstance(value, bool) or value is None:
        return "flag"  # foreach and fused are None until somebody chooses
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, (list, tuple)):
        return [_kind(item) for item in value]
    return type(value).__name__
