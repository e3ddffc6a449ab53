"""Tensors of trainer ranks in files that any number of ranks can read, and nothing that could run code.

torch.distributed.checkpoint (DCP) does the work: rank R writes the parts it holds to ``__R_0.distcp``, and reads the
parts it needs with ``weights_only``. DCP's own index is a pickle, and so is whatever isn't a tensor: here the index is
JSON, and only tensors pass. (DCP's safetensors storage infers an index from the files it finds, so that parts of a lost
file are silently not loaded.)
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed._shard._utils import narrow_tensor_by_index
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner
from torch.distributed.checkpoint.storage import WriteResult

from mrpo.checkpoint.files import NOT_KNOWN
from mrpo.checkpoint.manifest import CheckpointError
from mrpo.checkpoint.plain import UNREADABLE

T = TypeVar("T")
INDEX = "index.json"


def write_tensors(
    tensors: dict[str, torch.Tensor], folder: Path, group: dist.ProcessGroup | None, asynchronous: bool
) -> Future | None:
    """Write all ranks' ``tensors`` (same names on each) and then the index, which says that the rest is complete.

    ``asynchronous``: return when the tensors are copied to CPU memory; the future says how writing them ended.
    ``group`` must be able to talk about CPU objects, and nobody else may use it meanwhile.
    """
    for name, tensor in tensors.items():
        if not torch.is_tensor(tensor):
            raise CheckpointError(f"{name} is not a tensor but a {type(tensor).__name__}")
    detached, writer = {name: tensor.detach() for name, tensor in tensors.items()}, _Writer(folder)
    if asynchronous:
        written = dcp.async_save(detached, storage_writer=writer, process_group=group)
        assert isinstance(written, Future)
        return written
    explained(lambda: dcp.save(detached, storage_writer=writer, process_group=group), f"{folder} can't be written")
    return None


def read_tensors(
    tensors: dict[str, torch.Tensor], folder: Path, index: Metadata, group: dist.ProcessGroup | None
) -> None:
    """Fill ``tensors`` in place. They must match ``index``: see ``require_match``."""
    detached = {name: tensor.detach() for name, tensor in tensors.items()}
    reader = _Reader(folder, index)
    explained(lambda: dcp.load(detached, storage_reader=reader, process_group=group), f"{folder} can't be read")


def explained(act: Callable[[], T], failure: str) -> T:
    """What DCP raises isn't an Exception, and holds the tracebacks of all ranks. Raises CheckpointError instead."""
    try:
        return act()
    except CheckpointException as error:
        ranks = (f"rank {rank}: {type(what).__name__}: {what}" for rank, (what, _) in error.failures.items())
        raise CheckpointError(f"{failure}: {'; '.join(ranks)}") from error


def on_all_ranks(act: Callable[[], T], group: dist.ProcessGroup | None) -> T:
    """``act`` here. If it fails on one rank, all raise CheckpointError, instead of waiting for a rank that has gone."""
    result, error = None, None
    try:
        result = act()
    except Exception as raised:
        error = raised
    text = None if error is None else f"{type(error).__name__}: {error}"
    texts = [text] if group is None else [text] * dist.get_world_size(group)
    if group is not None:
        dist.all_gather_object(texts, text, group=group)
    ranks: dict[str, list[str]] = {}
    for rank, text in enumerate(texts):
        if text is not None:
            ranks.setdefault(text, []).append(str(rank))
    if ranks:
        raise CheckpointError("; ".join(f"rank {', '.join(r)}: {t}" for t, r in ranks.items())) from error
    return cast(T, result)


def read_index(folder: Path) -> Metadata:
    """The index, checked against the files. Raises CheckpointError if it is none, or a file is missing or cut off."""
    path = folder / INDEX
    tensors: dict[str, Any] = {}
    storage: dict[MetadataIndex, _StorageInfo] = {}
    needed: dict[str, int] = {}
    try:
        entries = json.loads(path.read_bytes())
        for name, entry in entries.items():
            dtype, size, chunks = getattr(torch, entry["dtype"]), torch.Size(entry["size"]), []
            if not isinstance(dtype, torch.dtype):
                raise TypeError(f"{name}: {entry['dtype']!r} is not a dtype")
            for offsets, sizes, file, start, length in entry["parts"]:
                if Path(file).name != file:
                    raise ValueError(f"{name}: part outside the folder: {file!r}")
                chunks.append(ChunkStorageMetadata(torch.Size(offsets), torch.Size(sizes)))
                storage[MetadataIndex(name, offsets)] = _StorageInfo(file, start, length)
                needed[file] = max(needed.get(file, 0), start + length)
                if start < 0 or length < math.prod(sizes) * dtype.itemsize:
                    raise ValueError(f"{name}: {length} bytes at {start} for a part of {list(sizes)}")
            if not tiles([(tuple(chunk.offsets), tuple(chunk.sizes)) for chunk in chunks], tuple(size)):
                raise ValueError(f"{name}: its parts don't make up its size {list(size)}, each element once")
            tensors[name] = TensorStorageMetadata(TensorProperties(dtype=dtype), size, chunks)
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing: the state is not there, or not complete") from None
    except OSError as error:
        if error.errno in NOT_KNOWN:
            raise
        raise CheckpointError(f"{path} can't be read: {error.strerror}") from None
    except UNREADABLE as error:
        raise CheckpointError(f"{path} is not an index of tensors: {type(error).__name__}: {error}") from error
    for file, length in needed.items():
        there = (folder / file).stat().st_size if (folder / file).is_file() else None
        if there is None or there < length:
            found = "is missing" if there is None else f"is cut off: {there} bytes, {length} needed"
            raise CheckpointError(f"{folder / file} {found}")
    return Metadata(tensors, storage_data=storage)


Part = tuple[tuple[int, ...], tuple[int, ...]]
"""Offsets and sizes."""


def tiles(parts: list[Part], whole: tuple[int, ...]) -> bool:
    """Whether each element of a tensor of shape ``whole`` lies in exactly one of ``parts``.

    >>> tiles([((0, 0), (2, 4)), ((2, 0), (2, 4))], (4, 4)), tiles([((0, 0), (2, 4))] * 2, (4, 4))
    (True, False)
    """
    if any(
        len(offsets) != len(whole)
        or len(sizes) != len(whole)
        or any(o < 0 or s < 0 or o + s > w for o, s, w in zip(offsets, sizes, whole, strict=True))
        for offsets, sizes in parts
    ):
        return False
    if sum(math.prod(sizes) for _, sizes in parts) != math.prod(whole):
        return False
    # All lie inside and have its volume together: it remains that no two meet. By their start in the first dimension,
    # along which FSDP shards, a part is compared with few others.
    open_parts: list[Part] = []
    for part in sorted(part for part in parts if math.prod(part[1])):
        open_parts = [other for other in open_parts if not whole or other[0][0] + other[1][0] > part[0][0]]
        if any(_meet(part, other) for other in open_parts):
            return False
        open_parts.append(part)
    return True


def _meet(one: Part, other: Part) -> bool:
    return all(a < b + t and b < a + s for a, s, b, t in zip(*one, *other, strict=True))


def require_match(tensors: dict[str, torch.Tensor], index: Metadata, folder: Path) -> None:
    """Raises CheckpointError with the names that are in only one of them, or differ in shape or type."""
    saved: dict[str, Any] = index.state_dict_metadata
    wrong = [f"{name} is missing from it" for name in tensors.keys() - saved.keys()]
    wrong += [f"{name} is in it but not here" for name in saved.keys() - tensors.keys()]
    for name in tensors.keys() & saved.keys():
        here = (tensors[name].dtype, list(tensors[name].shape))
        there = (saved[name].properties.dtype, list(saved[name].size))
        if here != there:
            wrong.append(f"{name} is {there[0]} {there[1]} in it but {here[0]} {here[1]} here")
    if wrong:
        more = f"; and {len(wrong) - 10} more" if len(wrong) > 10 else ""
        raise CheckpointError(f"{folder} doesn't fit: {'; '.join(sorted(wrong)[:10])}{more}")


def room_for(name: str, index: Metadata, param: torch.Tensor) -> torch.Tensor:
    """An empty tensor for a saved one: laid out like ``param`` if it has its shape, else whole."""
    saved = index.state_dict_metadata.get(name)
    if not isinstance(saved, TensorStorageMetadata):
        raise CheckpointError(f"{name} is missing from {INDEX}")
    if saved.size and saved.size == param.shape:
        return torch.empty_like(param.detach(), dtype=saved.properties.dtype)
    if len(saved.chunks) > 1:
        raise CheckpointError(f"{name} is sharded, but not shaped like its parameter")
    return torch.empty(saved.size, dtype=saved.properties.dtype)


class _Writer(dcp.FileSystemWriter):
    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        stored = {result.index: result.storage_data for of_rank in results for result in of_rank}
        index = {}
        for name, tensor in metadata.state_dict_metadata.items():
            assert isinstance(tensor, TensorStorageMetadata)
            parts = [(chunk, stored[MetadataIndex(name, chunk.offsets)]) for chunk in tensor.chunks]
            index[name] = {
                "dtype": str(tensor.properties.dtype).removeprefix("torch."),
                "size": list(tensor.size),
                "parts": [
                    [list(chunk.offsets), list(chunk.sizes), at.relative_path, at.offset, at.length]
                    for chunk, at in parts
                ],
            }
        Path(self.path, INDEX).write_text(json.dumps(index), encoding="utf-8")


class _Reader(dcp.FileSystemReader):
    def __init__(self, folder: Path, index: Metadata):
        super().__init__(folder)
        self._index = index
        of_index = index.state_dict_metadata.items()
        tensors = {name: tensor for name, tensor in of_index if isinstance(tensor, TensorStorageMetadata)}
        self._parts = {
            MetadataIndex(name, chunk.offsets): (tensor.properties.dtype, chunk.sizes)
            for name, tensor in tensors.items()
            for chunk in tensor.chunks
        }

    def read_metadata(self) -> Metadata:  # with **kwargs, DCP would try per-rank pickles too
        return self._index

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> torch.futures.Future[None]:
        """As DCP's, which would cut and cast whatever tensor lies in the file: it must be the part of the index."""
        for item in plan.items:
            where = self.storage_data[item.storage_index]
            with open(Path(self.path, where.relative_path), "rb") as stream:
                part = torch.load(self._slice_file(stream, where), map_location="cpu", weights_only=True)
            there, wanted = (part.dtype, part.size()), self._parts[item.storage_index]
            if there != wanted:
                found, listed = (f"{dtype} {list(size)}" for dtype, size in (there, wanted))
                name = item.storage_index.fqn
                raise CheckpointError(f"{name}: a part in {where.relative_path} is {found}, by the index {listed}")
            target = planner.resolve_tensor(item).detach()
            target.copy_(narrow_tensor_by_index(part, item.storage_offsets, item.lengths))
            planner.commit_tensor(item, target)
        done: torch.futures.Future[None] = torch.futures.Future()
        done.set_result(None)
        return done
