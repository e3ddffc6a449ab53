"""Nested plain values in one file, exactly as they were, and without pickle: loading can't run code.

The file is numpy's ``.npz``: arrays as they are, and beside them, as JSON, the tree that they hang in. JSON keeps
lists, strings, bools, None, integers and floats (inf and nan included); the rest are objects with one telling key::

    {"tuple": [...]}  {"dict": [[key, value], ...]}  {"array": "0"}  {"scalar": "1"}  {"bytes": "2"}
    {"tensor": "3", "dtype": "bfloat16", "shape": [2, 3]}     a torch tensor's bytes; comes back on the CPU
"""

from __future__ import annotations

import json
import struct
import sys
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mrpo.checkpoint.files import NOT_KNOWN
from mrpo.checkpoint.manifest import CheckpointError

_TREE = "tree"
_ATOMS = (type(None), bool, int, float, str)
UNREADABLE = (
    *(ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, RuntimeError, TypeError, ValueError),
    *(struct.error, zipfile.BadZipFile, zlib.error),
)
"""What reading a file of any content may raise: numpy, zip and JSON check some of it, Python trips over the rest."""
_ARRAY_KINDS = "biufcSUmM"
"""Kinds of dtype that a .npy file holds as they are: no objects, and no foreign types, which would lose their name."""

Array = npt.NDArray[Any]


def save_state(path: Path, state: Any) -> None:
    """Write ``state``: dicts, lists, tuples, str, bytes, bool, int, float, None, numpy arrays and scalars, tensors.

    States of random generators (``random.getstate()``, ``bit_generator.state``, ``RandomState.get_state()``,
    ``torch.get_rng_state()``) are made of these.

    Raises:
        TypeError: some value is of another type, or a subclass; the message names it (``history.counts[3]``, after a
            file ``history.npz``).
    """
    arrays: dict[str, Array] = {}
    tree = json.dumps(_pack(state, arrays, path.stem)).encode()
    with open(path, "wb") as file:  # numpy would add a suffix to a name
        np.savez(file, **{_TREE: np.frombuffer(tree, dtype=np.uint8)}, **arrays)  # type: ignore[arg-type]


def load_state(path: Path) -> Any:
    """What ``save_state`` was given. Raises CheckpointError if the file isn't such a file."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return _unpack(json.loads(arrays[_TREE].tobytes()), arrays)
    except OSError as error:
        if error.errno in NOT_KNOWN:
            raise
        raise CheckpointError(f"{path}: can't be read: {error.strerror or error}") from None
    except UNREADABLE as error:
        raise CheckpointError(f"{path}: not a state file: {type(error).__name__}: {error}") from error


def _pack(value: Any, arrays: dict[str, Array], where: str) -> Any:
    kind = type(value)
    if kind in _ATOMS:
        return value
    if kind is list:
        return [_pack(item, arrays, f"{where}[{i}]") for i, item in enumerate(value)]
    if kind is tuple:
        return {"tuple": [_pack(item, arrays, f"{where}[{i}]") for i, item in enumerate(value)]}
    if kind is dict:
        return {"dict": [_pack_item(key, item, arrays, where) for key, item in value.items()]}
    if kind is bytes:
        return {"bytes": _add(np.frombuffer(value, dtype=np.uint8), arrays)}
    if kind is np.ndarray and value.dtype.kind in _ARRAY_KINDS:
        return {"array": _add(value, arrays)}
    if isinstance(value, np.generic) and value.dtype.kind in _ARRAY_KINDS:
        return {"scalar": _add(np.asarray(value), arrays)}
    torch = sys.modules.get("torch")  # before it is imported, nothing can be a tensor
    if torch is not None and kind is torch.Tensor and value.layout == torch.strided and not value.is_quantized:
        flat = torch.empty(value.numel(), dtype=value.dtype).copy_(value.detach().reshape(-1))
        dtype = str(value.dtype).removeprefix("torch.")
        return {"tensor": _add(flat.view(torch.uint8).numpy(), arrays), "dtype": dtype, "shape": list(value.shape)}
    what = f"numpy {kind.__name__} of {value.dtype}" if isinstance(value, np.ndarray) else f"{kind.__name__}"
    raise TypeError(f"{where}: can't save a {what} without pickle")


def _pack_item(key: Any, value: Any, arrays: dict[str, Array], where: str) -> list[Any]:
    inner = f"{where}.{key}" if isinstance(key, str) else f"{where}[{key!r}]"
    return [_pack(key, arrays, f"{where}, key {key!r}"), _pack(value, arrays, inner)]


def _add(array: Array, arrays: dict[str, Array]) -> str:
    name = str(len(arrays))
    arrays[name] = array
    return name


def _unpack(node: Any, arrays: Mapping[str, Array]) -> Any:
    if isinstance(node, list):
        return [_unpack(item, arrays) for item in node]
    if not isinstance(node, dict):
        return node
    if not node:
        raise ValueError("an object without a key")
    kind, content = next(iter(node.items()))
    match kind:
        case "tuple":
            return tuple(_unpack(item, arrays) for item in content)
        case "dict":
            return {_unpack(key, arrays): _unpack(value, arrays) for key, value in content}
        case "array":
            return arrays[content]
        case "scalar":
            return arrays[content][()]
        case "bytes":
            return arrays[content].tobytes()
        case "tensor":
            return _tensor(arrays[content], node["dtype"], node["shape"])
    raise ValueError(f"unknown kind {kind!r}")


def _tensor(content: Array, dtype: str, shape: list[int]) -> Any:
    import torch

    found = getattr(torch, dtype)
    if not isinstance(found, torch.dtype):
        raise ValueError(f"unknown dtype {dtype!r}")
    if not content.size:  # torch can't view no bytes as another type
        return torch.empty(shape, dtype=found)
    return torch.from_numpy(content).view(found).reshape(shape)
