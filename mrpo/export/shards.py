"""Tensors into safetensors shards, one at a time.

safetensors' own ``save_file`` takes all of a file's tensors at once. The format lets a file be written from front to
back instead: the length of a JSON header, the header (type, shape and place of each tensor), and their bytes in a row.
https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from huggingface_hub import split_state_dict_into_shards_factory

from mrpo.export.error import ExportError

NAMES = {
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.float64: "F64",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""The types that a model's tensors have, in the format's words."""
ALIGNMENT = 8


class Layout(NamedTuple):
    """Shape and type of a tensor that is to be written."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def size(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


def write_shards(
    folder: Path,
    layouts: Mapping[str, Layout],
    read: Callable[[str], torch.Tensor],
    shard_size: str | int,
    name: str = "model",
) -> None:
    """Write the tensors into ``NAME.safetensors``, or several files of at most ``shard_size`` and their index.

    Args:
        layouts: what is written, in this order.
        read: gives a tensor by its name, of exactly that layout; called once for each.
        shard_size: bytes, or a text like ``5GB``. A larger tensor gets a shard of its own.

    Raises:
        ExportError: there is no room on the disk, or the writing failed otherwise.
    """
    split = split_state_dict_into_shards_factory(
        dict(layouts),
        get_storage_size=lambda layout: layout.size,
        filename_pattern=f"{name}{{suffix}}.safetensors",
        max_shard_size=shard_size,
    )
    for file, names in split.filename_to_tensors.items():
        write_shard(folder / file, {name: layouts[name] for name in names}, read)
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        (folder / f"{name}.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def write_shard(file: Path, layouts: Mapping[str, Layout], read: Callable[[str], torch.Tensor]) -> None:
    """Write one file. Memory: the tensor that ``read`` has just given."""
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, layout in layouts.items():
        entry = {"dtype": NAMES[layout.dtype], "shape": list(layout.shape), "data_offsets": [end, end + layout.size]}
        header[name], end = entry, end + layout.size  # type: ignore[assignment]
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    with open(file, "wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for name, layout in layouts.items():
            tensor = read(name)
            if (tuple(tensor.shape), tensor.dtype) != layout:
                raise ExportError(f"{name}: read as {tensor.dtype} {list(tensor.shape)}, announced as {layout}")
            out.write(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
