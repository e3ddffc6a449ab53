"""Export a checkpoint of a run: choose it, compare it with the model's config, write the folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch

from mrpo.checkpoint.manifest import CheckpointError
from mrpo.checkpoint.store import CheckpointStore, Found, Skipped
from mrpo.config.load import load_saved_config
from mrpo.config.run import RunConfig
from mrpo.errors import ConfigError
from mrpo.export.base_model import BaseModel, layouts_of
from mrpo.export.card import model_card
from mrpo.export.choose import Which, choose
from mrpo.export.error import ExportError
from mrpo.export.folder import new_folder
from mrpo.export.origin import ORIGIN
from mrpo.export.saved_model import SavedModel, as_finite, require_same
from mrpo.export.shards import Layout, write_shards
from mrpo.record.run_folder import RunFolder
from mrpo.step.checkpointing import RANKS_FOLDER

DOWNLOADED = "download"
Read = Callable[[str], torch.Tensor]
Report = Callable[[str, int, int], None]
"""Gets what is being done, how many bytes of it are done, and how many there are (0: not known)."""


@dataclass(frozen=True)
class Options:
    """What an export may be told. ``dtype``: None is that of the run's engines, ``rollout.dtype``."""

    dtype: str | None = None
    shard_size: str = "5GB"
    merge: bool = False
    scratch: Path | None = None
    """Where a checkpoint from an object storage is downloaded to; None: beside what is written, and removed."""


@dataclass(frozen=True)
class Exported:
    """What was written. ``skipped`` are newer checkpoints that can't be used."""

    folder: Path
    step: int
    dtype: str
    size: int
    skipped: list[Skipped] = field(default_factory=list)


def export(run: RunFolder, which: Which, target: Path, options: Options, report: Report) -> Exported:
    """Make ``target`` a Hugging Face folder of one of the run's checkpoints; after an error there is none.

    Raises:
        ConfigError: there is no such checkpoint, or there is something at ``target``.
        CheckpointError: the checkpoint is damaged.
        ExportError: it doesn't hold the model that the run's base model describes, holds numbers that aren't finite, or
            there is no room for it.
    """
    config = load_saved_config(run.config, [])
    with new_folder(target) as partial:
        scratch = options.scratch or partial / DOWNLOADED
        store = CheckpointStore(config.checkpoint.folder or run.checkpoints, scratch)
        report("compare checksums", 0, 0)
        found, skipped = choose(store, which, config.checkpoint)
        assert found is not None  # there are checkpoints: one is whole, or choose raises
        try:
            size = _fill(partial, run, config, found, options, report)
        except (CheckpointError, FileNotFoundError):
            if found.step in store.steps():
                raise
            raise ExportError(
                f"the checkpoint of step {found.step} was removed while it was read: the run goes on and keeps its "
                f"newest {config.checkpoint.keep_last} (checkpoint.keep_last). Try again."
            ) from None
        except OSError as error:
            raise ExportError(
                f"{target} can't be written: {error.strerror or error}. Nothing is left of it."
            ) from error
        shutil.rmtree(partial / DOWNLOADED, ignore_errors=True)
    return Exported(target, found.step, options.dtype or config.rollout.dtype, size, skipped)


class Content(NamedTuple):
    """What goes into the shards. ``read`` gives a tensor by its name, in the type that ``layouts`` says."""

    name: str
    """``model``, or PEFT's ``adapter_model``."""
    layouts: Mapping[str, Layout]
    read: Read
    write_config: Callable[[Path], None]


def _fill(folder: Path, run: RunFolder, config: RunConfig, found: Found, options: Options, report: Report) -> int:
    """Write everything into ``folder``; returns the bytes of all tensors."""
    base, saved = BaseModel.of(config), SavedModel(found.folder / RANKS_FOLDER)
    dtype = options.dtype or config.rollout.dtype
    content = _content(base, saved, getattr(torch, dtype), options.merge)
    size = sum(layout.size for layout in content.layouts.values())
    free = shutil.disk_usage(folder).free
    if free < size:
        raise ExportError(f"{folder.parent} has {free / 1e9:.3g} GB free, and the model takes {size / 1e9:.3g} GB.")
    write_shards(folder, content.layouts, _reporting(content, size, report), options.shard_size, content.name)
    base.copy_files(folder)
    content.write_config(folder)
    card = model_card(run, config, found, dtype, adapter=content.name != "model")
    (folder / "README.md").write_text(card, encoding="utf-8")
    origin = {"step": found.step, "recipe": config.recipe, "dtype": dtype, "packages": found.manifest.packages}
    (folder / ORIGIN).write_text(json.dumps(origin, indent=2) + "\n", encoding="utf-8")
    return size


def _content(base: BaseModel, saved: SavedModel, dtype: torch.dtype, merge: bool) -> Content:
    """The plain model, a merged one or an adapter, once the checkpoint is known to hold what the base model says."""
    model = base.on_meta()
    architecture, plain = type(model).__name__, layouts_of(model)

    def write_config(target: Path) -> None:
        base.write_config(target, dtype, architecture)

    if not base.lora_rank:
        if merge:
            raise ConfigError("--merge: given for a run that trained the whole model. Allowed: a run with LoRA.")
        require_same(saved.layouts, plain, base.name)
        return Content("model", _in(dtype, plain), lambda name: saved.read(name, dtype), write_config)
    from mrpo.export.lora import LoraModel

    lora = LoraModel(base, model)
    require_same(saved.layouts, lora.layouts, base.name)
    if merge:
        return Content(
            "model", _in(dtype, plain), lambda n: as_finite(n, lora.merged(n, saved.read), dtype), write_config
        )
    names = lora.adapter_names()
    adapter = {name: saved.layouts[full] for name, full in names.items()}
    return Content(
        "adapter_model",
        _in(dtype, adapter),
        lambda name: saved.read(names[name], dtype),
        lambda target: lora.write_config(target, base),
    )


def _in(dtype: torch.dtype, layouts: Mapping[str, Layout]) -> dict[str, Layout]:
    """The same with floating-point numbers of this type."""
    return {n: Layout(x.shape, dtype) if x.dtype.is_floating_point else x for n, x in layouts.items()}


def _reporting(content: Content, size: int, report: Report) -> Read:
    done = 0

    def read(name: str) -> torch.Tensor:
        nonlocal done
        tensor = content.read(name)
        done += content.layouts[name].size
        report("write the model", done, size)
        return tensor

    return read
