"""The model in a checkpoint: its tensors by name, put together from the ranks' files one at a time."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from mrpo.checkpoint import tensor_files
from mrpo.checkpoint.manifest import CheckpointError
from mrpo.checkpoint.sharded import MODEL
from mrpo.export.error import ExportError
from mrpo.export.shards import Layout

MAX_NAMED = 5
"""Tensors that a message names; the rest it counts."""


class SavedModel:
    """The model's part of the state that any number of ranks left in ``folder``; moments aren't read.

    Attributes:
        layouts: shape and type of each tensor; tied ones are there once, under the name that comes first.

    Raises:
        CheckpointError: the state isn't there, or not complete.
    """

    def __init__(self, folder: Path):
        self.folder, self._index = folder, tensor_files.read_index(folder)
        self.layouts: dict[str, Layout] = {}
        for name, entry in self._index.state_dict_metadata.items():
            assert isinstance(entry, TensorStorageMetadata)
            if name.startswith(MODEL):
                self.layouts[name.removeprefix(MODEL)] = Layout(tuple(entry.size), entry.properties.dtype)

    def read(self, name: str, dtype: torch.dtype | None = None) -> torch.Tensor:
        """One tensor, whole; floating-point ones in ``dtype`` if it is given.

        Raises:
            CheckpointError: a part of it can't be read.
            ExportError: it holds a NaN or an infinity, in its own type or in the other.
        """
        shape, own = self.layouts[name]
        tensor = torch.empty(shape, dtype=own)
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="torch.distributed is disabled")
                tensor_files.read_tensors({MODEL + name: tensor}, self.folder, self._index, None)
        except CheckpointError as error:
            raise CheckpointError(f"{name}: {error}") from error
        return as_finite(name, tensor, dtype)


def as_finite(name: str, tensor: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
    """``tensor`` in ``dtype`` (if it is a floating-point one). Raises ExportError if a number of it isn't finite."""
    if not tensor.is_floating_point():
        return tensor
    converted = tensor if dtype is None else tensor.to(dtype)
    for form in (tensor,) if converted is tensor else (tensor, converted):
        # the extremes, as a mask of the whole tensor would be as large again; a NaN is both
        if form.numel() and not torch.stack(torch.aminmax(form)).isfinite().all():
            as_what = "" if form is tensor else f" as {str(dtype).removeprefix('torch.')}"
            raise ExportError(f"{name} holds a NaN or an infinity{as_what}: this is no model to use.")
    return converted


def require_same(saved: Mapping[str, Layout], expected: Mapping[str, Layout], model: str) -> None:
    """Raises ExportError with the tensors that are missing, surplus, or of another shape or kind of number.

    Floating-point types may differ: a trainer keeps float32 of a model that its config calls bfloat16.
    """
    wrong = [f"{name} is missing from the checkpoint" for name in expected if name not in saved]
    wrong += [f"{name} is in the checkpoint but not in the model" for name in saved if name not in expected]
    for name in expected.keys() & saved.keys():
        here, there = saved[name], expected[name]
        both_float = here.dtype.is_floating_point and there.dtype.is_floating_point
        if here.shape != there.shape or not (both_float or here.dtype == there.dtype):
            as_saved, as_model = (f"{str(x.dtype).removeprefix('torch.')} {list(x.shape)}" for x in (here, there))
            wrong.append(f"{name} is {as_saved} in the checkpoint, {as_model} in the model")
    if wrong:
        more = f"\n  and {len(wrong) - MAX_NAMED} more" if len(wrong) > MAX_NAMED else ""
        listed = "".join(f"\n  {line}" for line in sorted(wrong)[:MAX_NAMED])
        raise ExportError(f"the checkpoint doesn't hold the model that {model} describes:{listed}{more}")
